//! Words about tunnels: paths that are cut or bad, tunnels of others, what arrives, what is lost.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::values::{duration, some_duration};
use crate::emulator::Impairment;

/// A way of UDP through a host of the lab that loses, doubles, reorders and delays.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmulatorConfig {
    /// The host that it runs in.
    pub at: String,
    pub listen: SocketAddr,
    /// Where the datagrams go; answers go back to whoever asked.
    pub to: SocketAddr,
    /// How bad it is at first. Default: not at all.
    #[serde(default)]
    pub with: Impairment,
}

/// From now on, a way is this bad.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulate {
    pub name: String,
    pub with: Impairment,
}

/// What comes from a link's address of one host no longer reaches the other, unseen by both.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutPath {
    pub between: [String; 2],
    /// Only UDP from or to these ports. Default: everything.
    #[serde(default)]
    pub udp: Vec<u16>,
    /// Only what goes from the first to the second.
    #[serde(default)]
    pub one_way: bool,
}

/// `wg` at a host's tunnel, such as `set wg0 listen-port 51999`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wg {
    pub at: String,
    pub arguments: String,
}

/// netlab's own UDP server, which answers the lab's datagrams and counts whose arrive.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    pub name: String,
    pub at: String,
    pub listen: Vec<SocketAddr>,
}

/// Captures sealed datagrams of others for a while, then sends them again: from where they came, and from here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    pub at: String,
    pub interface: String,
    /// The port that they go to.
    pub udp: u16,
    #[serde(rename = "for", deserialize_with = "duration")]
    pub time: Duration,
    pub times: u32,
}

/// Datagrams of every length there and back, each compared octet by octet.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EveryLength {
    pub from: String,
    /// Inside; the answers go there.
    pub source: SocketAddr,
    pub to: String,
    pub target: SocketAddr,
    /// Octets of the longest payload.
    pub up_to: usize,
}

/// What a tunnel of another implementation knows of a peer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectWireguard {
    pub at: String,
    /// By its name in the scenario.
    pub peer: String,
    /// Whether there has ever been a handshake.
    pub handshake: Option<bool>,
    /// The last handshake is at most so old; whole seconds.
    #[serde(default, deserialize_with = "some_duration")]
    pub handshake_age: Option<Duration>,
    /// Octets inside.
    pub received: Option<u64>,
    pub sent: Option<u64>,
    pub endpoint: Option<SocketAddr>,
}

/// What a client's datagrams came to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectTraffic {
    pub name: String,
    /// A mark. Default: since the client started.
    pub since: Option<String>,
    /// At least so many were answered.
    pub answered: Option<u64>,
    /// At most so many of those answered at least half a second ago were not.
    pub lost: Option<u64>,
    /// Answers that came twice, over the client's whole life.
    pub duplicates: Option<u64>,
    /// Answers overtaken by later ones, over the client's whole life.
    pub reordered: Option<u64>,
}

/// What arrived at a sink.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectArrivals {
    pub sink: String,
    /// Only from this address.
    pub from: Option<IpAddr>,
    #[serde(default)]
    pub at_least: u64,
    pub at_most: Option<u64>,
}

/// One figure: the longest time without any answer to a client since a mark.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    pub figure: String,
    pub traffic: String,
    pub since: String,
    #[serde(default)]
    pub goal: Option<String>,
    /// A longer one fails: behaviour, not a goal.
    #[serde(deserialize_with = "duration")]
    pub most: Duration,
}

/// One figure: how many of a client's datagrams nobody answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    pub figure: String,
    pub traffic: String,
    /// A mark. Default: since the client started.
    #[serde(default)]
    pub since: Option<String>,
    #[serde(default)]
    pub goal: Option<String>,
    /// More fail: behaviour, not a goal.
    pub most: u64,
}
