//! What a step expects to become true.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::values::{duration, five_seconds, yes};
use super::{ExpectArrivals, ExpectExplanation, ExpectFlows, ExpectTraffic, ExpectWireguard};

/// What must become true; exactly one of its words besides `within`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub route: Option<ExpectRoute>,
    pub session: Option<ExpectSession>,
    pub status: Option<ExpectStatus>,
    pub command: Option<ExpectCommand>,
    pub updates: Option<ExpectUpdates>,
    pub flows: Option<ExpectFlows>,
    pub attack: Option<ExpectAttack>,
    pub explain: Option<ExpectExplanation>,
    pub wireguard: Option<ExpectWireguard>,
    pub traffic: Option<ExpectTraffic>,
    pub arrivals: Option<ExpectArrivals>,
    /// Each first occurrence after `since` must come after the one before it.
    pub order: Option<Order>,
    /// Polled for this long. Default 5 s.
    #[serde(default = "five_seconds", deserialize_with = "duration")]
    pub within: Duration,
}

/// A route in a router's table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRoute {
    pub at: String,
    pub prefix: String,
    #[serde(default = "yes")]
    pub present: bool,
    pub next_hop: Option<String>,
    pub as_path: Option<Vec<u32>>,
    pub med: Option<u32>,
    pub communities: Option<Vec<String>>,
    pub large_communities: Option<Vec<String>>,
}

/// A session as a router sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectSession {
    pub at: String,
    pub neighbor: String,
    pub state: Option<String>,
    /// Anything but this state.
    pub not: Option<String>,
}

/// A place in edgeproxy's status document.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectStatus {
    pub at: String,
    /// JSON pointer; a part `name=web` picks the element of a list whose `name` is `web`. `/proxy/…` is what the data plane carries.
    pub pointer: String,
    pub equals: Option<serde_json::Value>,
    pub contains: Option<String>,
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}

/// A command in a host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectCommand {
    pub at: String,
    pub run: String,
    #[serde(default)]
    pub code: i32,
    pub contains: Option<String>,
    pub lacks: Option<String>,
}

/// How many UPDATEs named a prefix in a capture since a mark.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectUpdates {
    pub capture: String,
    pub prefix: IpNetwork,
    pub since: String,
    pub count: Option<usize>,
    pub at_most: Option<usize>,
}

/// What an attack has come to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectAttack {
    pub name: String,
    /// So many attempts are over, at least; by default all of them.
    pub over: Option<usize>,
    /// Of those, at most so many were answered as if all were well. Default 0.
    #[serde(default)]
    pub served: usize,
    /// Of those, at least so many were answered with a cookie.
    #[serde(default)]
    pub cookies: usize,
}

/// Things in their order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub since: String,
    pub of: Vec<Happening>,
}

/// Something that can be found in what was recorded.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Happening {
    Bound {
        at: String,
        address: IpAddr,
    },
    Unbound {
        at: String,
        address: IpAddr,
    },
    /// A SYN-ACK from this port.
    Probed {
        capture: String,
        port: u16,
    },
    Announced {
        capture: String,
        prefix: IpNetwork,
        /// Only with this community.
        community: Option<String>,
    },
    Withdrawn {
        capture: String,
        prefix: IpNetwork,
    },
    /// A NOTIFICATION.
    Closed {
        capture: String,
    },
    /// The end of a client's last flow.
    FlowsEnded(String),
    /// A RST from this port.
    Reset {
        capture: String,
        port: u16,
    },
}
