//! The words of a comparison: what edgeproxy measures of its withdrawals, and what captures saw of the same ones.

use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::values::{duration, ten_seconds};
use super::{Action, Spanned, Step};

/// Rounds in which a backend's end leads to one withdrawal at one neighbor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    pub at: String,
    pub rounds: u32,
    pub from: Action,
    /// Where the probe is refused: the beginning.
    pub refused: Refused,
    /// Where the WITHDRAW is seen: the end.
    pub withdrawn: Withdrawn,
    /// What `edgeproxy_fail_to_withdraw_seconds` grew by in each round.
    pub figure: String,
    #[serde(default)]
    pub goal: Option<String>,
    /// What the captures saw in each round.
    pub captured: String,
    /// By how much the captures saw more.
    pub apart: String,
    /// Half of the rounds must not be further apart: behaviour, not a goal.
    #[serde(deserialize_with = "duration")]
    pub most: Duration,
    /// No round may take longer. Default 10 s.
    #[serde(default = "ten_seconds", deserialize_with = "duration")]
    pub within: Duration,
    /// Brings the lab back to where a round begins.
    pub restore: Vec<Spanned<Step>>,
}

/// A RST that answers a SYN to this port.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub capture: String,
    pub port: u16,
}

/// An UPDATE that withdraws this prefix.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawn {
    pub capture: String,
    pub prefix: IpNetwork,
}
