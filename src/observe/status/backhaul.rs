//! What the backhaul tells of itself: the plane, and the link to each peer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The encrypted network between POPs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct BackhaulStatus {
    /// `kernel` or `userspace`; empty while there is none.
    pub backend: String,
    /// Why there is no plane, or what it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub interface: String,
    pub fleet: String,
    /// Our own address inside.
    pub node: String,
    /// In base64, for the configuration of the others.
    pub public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_public_key: Option<String>,
    /// Octets.
    pub mtu: u16,
    /// `tso uso gso gro`: those in use.
    pub offloads: Vec<String>,
    /// Handshakes are so many that strangers must prove their address first.
    pub under_load: bool,
    pub cookies: u64,
    /// Packets to nobody, and packets longer than their path.
    pub unreachable: u64,
    pub too_big: u64,
    /// Datagrams that are of no peer, by reason; those that are not zero.
    pub drops: BTreeMap<String, u64>,
    /// Sealed datagrams of others that were carried, and those that were not.
    pub carried: u64,
    pub not_carried: u64,
    pub peers: Vec<PeerStatus>,
}

/// The link to one peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct PeerStatus {
    pub pop: String,
    /// `starting up lossy tunnel-broken silent`.
    pub state: String,
    /// `direct`, or `via` and the POP in between.
    pub way: String,
    /// Where datagrams go; none while it is not known.
    pub endpoint: Option<String>,
    pub node: String,
    pub mtu: u16,
    /// How long ago.
    pub last_handshake_ms: Option<u64>,
    pub handshakes_failed: u64,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub rtt_us: Option<u64>,
    pub jitter_us: u64,
    /// 0 to 1, of probes inside the tunnel.
    pub loss: f64,
    /// The same, of probes outside.
    pub underlay_rtt_us: Option<u64>,
    pub underlay_loss: Option<f64>,
    /// How long ago it told how its backends are.
    pub told_ms: Option<u64>,
    /// By reason; those that are not zero.
    pub drops: BTreeMap<String, u64>,
}
