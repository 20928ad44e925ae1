//! A long time under random faults, as a scenario file writes it.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::Replace;
use super::values::{duration, two_durations};
use crate::soak::fault::Fault;

/// Minutes of random faults, after which everything heals and must be well again.
///
/// Figures: `announced_not_served` (how long a neighbor had a route that certainly nobody served), `served_not_announced`
/// (the reverse, for information), `without_session` (how long two that were left alone had no session), `faults`, and
/// `memory`, `descriptors` and their growth.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Soak {
    /// The host of edgeproxy; also the target of its own faults.
    pub at: String,
    pub minutes: u32,
    /// When `EDGEPROXY_FULL` is in the environment.
    pub full_minutes: u32,
    /// `NETLAB_SEED` in the environment comes before it.
    pub seed: u64,
    pub prefixes: Vec<SoakPrefix>,
    pub neighbors: Vec<SoakNeighbor>,
    pub faults: Vec<SoakFaults>,
    /// A reload makes some of these changes to the configuration, and raises its generation.
    pub reloads: Vec<Replace>,
    /// Of `announced_not_served`.
    pub goal: String,
    /// A longer one fails: behaviour, not a goal.
    #[serde(deserialize_with = "duration")]
    pub most: Duration,
}

/// A prefix, and the backends of which one that answers is enough.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoakPrefix {
    pub prefix: IpNetwork,
    /// As `HOST/SERVICE`.
    pub served_by: Vec<String>,
}

/// A router that is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoakNeighbor {
    pub host: String,
    pub address: IpAddr,
    /// Its link as `HOST/INTERFACE`.
    pub link: String,
    /// On its side of that link.
    pub capture: String,
}

/// What happens to one target, one fault at a time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoakFaults {
    /// `HOST`, `HOST/SERVICE` or `HOST/INTERFACE`.
    pub target: String,
    pub any_of: Vec<Fault>,
    /// Between two faults: least and most.
    #[serde(deserialize_with = "two_durations")]
    pub gap: [Duration; 2],
    /// How long one lasts: least and most.
    #[serde(deserialize_with = "two_durations")]
    pub lasts: [Duration; 2],
    /// None begins after this share of the time: what then lives on can show whether it grows. Default 100.
    #[serde(default = "whole")]
    pub until_percent: u32,
}

fn whole() -> u32 {
    100
}
