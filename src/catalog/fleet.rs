//! What the other POPs say of themselves, as replication brings it: the fleet's part of the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Everything at one moment, by POP. A POP that cannot be reached keeps what it said last.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    pub pops: BTreeMap<Arc<str>, Member>,
}

/// One POP, ourselves included.
#[derive(Debug, Clone, Default)]
pub struct Member {
    /// Whether what it says is current: we reach it, or others do; of ourselves true.
    pub reached: bool,
    pub pop: Option<Arc<Pop>>,
    /// What its operator has to say to all.
    pub note: Option<Arc<str>>,
    /// By service and id.
    pub backends: BTreeMap<(Arc<str>, Arc<str>), Arc<Backend>>,
    /// By prefix, in text.
    pub announcements: BTreeMap<Arc<str>, Arc<Announcement>>,
    /// By the POP at the other end.
    pub links: BTreeMap<Arc<str>, Link>,
}

/// A POP: what others need to reach it. Unknown fields are of later versions and mean nothing here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Pop {
    pub region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<(f64, f64)>,
    /// Of edgeproxy.
    pub version: String,
    /// Of its configuration.
    pub generation: u64,
    /// Where replication reaches it from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<std::net::SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backhaul: Option<Backhaul>,
}

/// How to build a tunnel to a POP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Backhaul {
    /// The fleet's /48, to see that it is the same.
    pub fleet: String,
    /// The 12 bits of region and POP.
    pub place: u16,
    /// UDP, where its tunnels listen outside: at the address of `Pop::replication`.
    pub listen: u16,
    /// In base64.
    pub public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_public_key: Option<String>,
    /// TCP port of its ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<u16>,
    /// UDP port of its replication, inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<u16>,
}

/// A backend that a POP owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    pub address: std::net::IpAddr,
    pub port: u16,
    pub region: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    pub weight: u32,
    /// `unproven up down draining`, by the checks of its POP.
    pub state: String,
}

/// What a POP says of a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// `announced degraded draining withdrawn`.
    pub state: String,
    /// The stable name of the reason, and its sentence.
    pub reason: String,
    pub why: String,
}

/// The way from a POP to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// In microseconds, about: it is told when it has changed by much.
    pub rtt_us: u64,
}
