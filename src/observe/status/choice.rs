//! What the choice of a backend tells of itself, for one client that might come.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Where a service would take one client now: the document of `/v1/explain?client=…&service=…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceStatus {
    pub service: String,
    pub client: String,
    /// What counts as this client when it comes to affinity: its address, or its IPv6 /64.
    pub source: String,
    /// Whether there is a database of countries.
    pub has_geo: bool,
    /// Two letters; None: not known.
    pub country: Option<String>,
    /// None: not known.
    pub region: Option<String>,
    pub pop_region: String,
    /// Whether the service has listeners.
    pub listens: bool,
    /// Too few backends are healthy to believe in their health.
    pub panic: bool,
    /// How many backends one connection may try.
    pub attempts: u32,
    /// None: the service has no affinity.
    pub affinity: Option<AffinityStatus>,
    /// Those that it may be taken to first, then the others in the order in which they follow, then those that may not
    /// be used.
    pub backends: Vec<CandidateStatus>,
}

/// What a client is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AffinityStatus {
    /// How long a binding lasts after the client was last seen.
    pub ttl_ms: u64,
    /// None: to none of the backends there are.
    pub backend: Option<String>,
    /// What is left of it, if nothing more comes.
    pub left_ms: Option<u64>,
}

/// One backend as the choice sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateStatus {
    pub id: String,
    pub address: String,
    pub region: String,
    /// `up`, `down` or `unproven`.
    pub verdict: String,
    /// How long it has been that; None: not known, or nobody checks.
    pub since_ms: Option<u64>,
    /// The last failure of its checks in words, while it matters.
    pub error: Option<String>,
    /// Round trip of the last successful check.
    pub rtt_us: Option<u64>,
    /// What is left of its ejection.
    pub ejected_ms: Option<u64>,
    pub open: u32,
    pub soft_limit: u32,
    /// 0: none.
    pub hard_limit: u32,
    /// As configured.
    pub weight: u32,
    /// What counts of that now: less while it starts slowly.
    pub weight_now: f64,
    /// What is left of its slow start.
    pub slow_start_ms: Option<u64>,
    /// The parts of the score. 0 it stands in the client's country, 100 in its region, 200 in this POP's, 300 elsewhere.
    pub geo: u32,
    /// 0 to 90: the round trip to its region.
    pub far: u32,
    /// Connections over `soft_limit` and the weight that counts.
    pub load: f64,
    /// The sum of the three: the lowest wins.
    pub score: f64,
    /// How likely the client is taken there, 0 to 1.
    pub chance: f64,
    /// `bound`, `best`, `panic` or `trial`, if it may be taken there.
    pub why: Option<String>,
    /// Otherwise `draining`, `unproven`, `down`, `ejected`, `on-trial`, `full`, `bound-elsewhere`, `farther` or
    /// `fuller`.
    pub why_not: Option<String>,
}

/// Asks the data plane where it would take a client.
#[derive(Debug)]
pub struct ChoiceCall {
    pub service: String,
    pub client: IpAddr,
    pub reply: oneshot::Sender<Result<ChoiceStatus, UnknownService>>,
}

/// There is no such service, but these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownService(pub Vec<String>);
