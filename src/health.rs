//! Active checks of backends: what the decision believes about each service, and how old that belief is.
//!
//! Two ways lead to a verdict. *Polling* probes every backend once per interval, faster while a
//! verdict is about to change. Beside it a *held connection* to each healthy backend sits idle: when
//! the backend dies, the kernel ends that connection within microseconds, which starts a probe at
//! once, and a refused probe is proof that needs no counting.
//!
//! The cores are `verdict`, `hysteresis`, `watermark`, `schedule`, `held`, `check`, `tally`, `roster`
//! and `pace`; the drivers are `probe`, `probe/*` and `prober`. This room knows nothing of prefixes,
//! neighbors or announcements.

mod check;
mod held;
mod hysteresis;
mod owner;
mod pace;
pub mod probe;
mod prober;
pub mod roster;
mod schedule;
mod tally;
mod verdict;
mod watermark;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

pub use hysteresis::{Evidence, Hysteresis};
pub use prober::Prober;
pub use verdict::{Failure, Outcome, Verdict};
pub use watermark::{Levels, Position};

use crate::config;
use crate::observe::journal::CauseId;

/// What to check, as the configuration says it.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthPlan {
    pub limits: config::health::Health,
    /// By name.
    pub services: BTreeMap<String, config::services::Service>,
}

/// What is known of every service at one moment; immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthView {
    /// When the prober's loop last ran. A hung prober shows as an old instant: the reader must compare
    /// it with `max_age` (decision rule 4), this room cannot.
    pub as_of: Instant,
    /// Every service of the plan, by name.
    pub services: BTreeMap<String, ServiceHealth>,
}

impl HealthView {
    /// A view in which nothing is known yet: the first value of the channel.
    #[must_use]
    pub fn empty(as_of: Instant) -> Self {
        Self { as_of, services: BTreeMap::new() }
    }
}

/// One service's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceHealth {
    pub position: Position,
    /// The sum of the weights of backends that are up.
    pub healthy_weight: u32,
    pub total_weight: u32,
    /// Whether enough is known to speak: every backend has had a verdict, or the position is over low.
    pub proven: bool,
    /// Whether it came up to its high mark and has not been at its low one since: a service between its
    /// marks is still up then.
    pub serving: bool,
    /// What took the service to this position; None while it is `Full`, and before any failure.
    pub cause: Option<Cause>,
    /// Since when the service has been in this position.
    pub since: Instant,
    /// The change of a verdict that last moved its healthy weight.
    pub changed_by: Option<CauseId>,
}

/// The failure behind a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub service: String,
    pub backend: String,
    /// What was probed.
    pub target: SocketAddr,
    /// Plain words, such as `connection refused`.
    pub error: String,
    /// When the failure of the deciding probe was known.
    pub failed_at: Instant,
    /// Refused by the backend's own machine, as opposed to inferred from silence or wrong answers.
    pub proven: bool,
}

/// Why the prober ended.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HealthError {
    /// The owner of the plan is gone: nobody answers for what is checked any more.
    #[error("the source of the health plan is gone")]
    PlanGone,
    /// The kernel gives no timer.
    #[error("no timer: {0}")]
    Timer(std::io::ErrorKind),
}
