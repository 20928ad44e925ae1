//! What replication tells of itself and of the fleet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// This POP among the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct FleetStatus {
    pub fleet: String,
    pub pop: String,
    /// Why replication does not run, or what it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// `INCARNATION.VERSION` of what this POP says.
    pub point: String,
    /// Another process writes under our name and was there first: we write nothing.
    pub silenced: bool,
    /// What our operator has to say to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub rows: u64,
    /// In memory, about.
    pub octets: u64,
    /// POPs of which somebody has more than we.
    pub behind: u64,
    /// Seconds since 1970 at which our certificate ends.
    pub certificate_ends: u64,
    pub certificate_days: i64,
    pub pushed: u64,
    pub taken: u64,
    pub known: u64,
    pub refused: u64,
    pub hurried: u64,
    pub unverified: u64,
    pub fetched: u64,
    pub compared: u64,
    /// POPs that grant permits to drain.
    pub voters: Vec<String>,
    /// What this POP has promised as a voter.
    pub promises: Vec<PromiseStatus>,
    /// Those that have to say what they hold before this voter promises anything, as it has lost what it had promised.
    pub unheard: Vec<String>,
    /// So many POPs vanished at once that rather this one is cut off; none if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vanished: Option<u64>,
    /// 0 to 8: how much slower than others this POP judges, as it has been slow itself.
    pub strain: u64,
    pub members: Vec<MemberStatus>,
    pub alarms: Vec<FleetAlarm>,
}

/// Another POP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct MemberStatus {
    pub pop: String,
    pub region: String,
    pub version: String,
    pub connected: bool,
    /// Through its tunnel.
    #[serde(default)]
    pub inside: bool,
    /// `alive suspect down`, as the whole fleet sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Octets in UDP datagrams over the connection that is there.
    #[serde(default)]
    pub tx_bytes: u64,
    #[serde(default)]
    pub rx_bytes: u64,
    /// What we have of it, `INCARNATION.VERSION`; none if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point: Option<String>,
    pub rows: u64,
    pub octets: u64,
    /// How long ago it said last how it stands for its prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// How many of our versions it lacked when it last asked; none if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<u64>,
    /// What its operator has to say to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Prefixes that it announces, with the state if that is another: as it says itself, or as it wrote last.
    pub announces: Vec<String>,
    /// Round trips from it to others, in microseconds, as it says: by POP.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rtts_us: BTreeMap<String, u64>,
    /// Days until the certificate ends that it signs with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_days: Option<i64>,
    /// Why the last attempt to reach it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A POP may drain a prefix, as far as this voter goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct PromiseStatus {
    pub prefix: String,
    pub holder: String,
    pub permit: String,
}

/// Something that an operator should look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct FleetAlarm {
    /// The POP that it is about, and the one that brought it.
    pub pop: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub words: String,
    pub age_ms: u64,
}
