//! What a step turns into figures.

use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::values::{duration, ten_seconds};
use super::{Action, Spanned, Step};

/// Rounds of an action and what follows from it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    pub rounds: u32,
    pub from: Action,
    pub outcomes: Vec<Outcome>,
    /// Brings the lab back to where a round begins.
    #[serde(default)]
    pub restore: Vec<Spanned<Step>>,
}

/// One thing that is timed in each round; exactly one of its words besides the figure's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub figure: String,
    #[serde(default)]
    pub goal: Option<String>,
    /// Read by a collector, or seen in a router's table.
    pub withdrawn: Option<CollectorSees>,
    pub announced: Option<CollectorSees>,
    /// The last packet for an address that arrives at a capture.
    pub last_packet: Option<LastPacket>,
    /// No round may take longer: behaviour, not a goal. Default 10 s.
    #[serde(default = "ten_seconds", deserialize_with = "duration")]
    pub within: Duration,
}

/// A route change at a collector or router.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorSees {
    pub at: String,
    pub prefix: IpNetwork,
}

/// The end of arrivals.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastPacket {
    pub capture: String,
    /// How long nothing must arrive for the last one to be the last.
    #[serde(deserialize_with = "duration")]
    pub quiet: Duration,
}

/// The ratio of two figures, of their medians unless told otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    pub figure: String,
    pub of: String,
    pub over: String,
    /// Of their p99 instead of their medians.
    #[serde(default)]
    pub p99: bool,
    #[serde(default)]
    pub goal: Option<String>,
}

/// How many UPDATEs named a prefix in a capture since a mark.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Updates {
    pub figure: String,
    pub capture: String,
    pub prefix: IpNetwork,
    pub since: String,
    #[serde(default)]
    pub goal: Option<String>,
}

/// The share of a client's datagrams that anybody answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub figure: String,
    pub traffic: String,
    /// A mark. Default: since the client started.
    #[serde(default)]
    pub since: Option<String>,
    #[serde(default)]
    pub goal: Option<String>,
    /// A smaller share fails: behaviour, not a goal.
    pub least: f64,
}
