//! What both data planes take and what both tell: the whole desired set of peers in, counters out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::Ipv6Network;

use super::tunnel::{Drops, Pair, PrivateKey, PublicKey};

/// A peer's name: the id of its POP.
pub type Name = Arc<str>;

/// Everything that a plane should be doing. It compares with what it does, and touches what differs.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub peers: BTreeMap<Name, PeerWanted>,
}

/// One peer as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerWanted {
    pub keys: Pair<PublicKey>,
    pub preshared: Option<[u8; 32]>,
    /// The one prefix whose addresses it may use, and whose packets go to it.
    pub allowed: Ipv6Network,
    /// Between packets that keep the path open.
    pub keepalive: Option<Duration>,
    pub endpoint: Option<Endpoint>,
    /// The longest packet that fits through the path to it, in octets.
    pub mtu: u16,
}

/// Where datagrams for a peer go, until authentic ones from it come from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// A choice is made anew by counting this: then it wins over what was learnt, even if the address is the same.
    pub turn: u64,
}

/// Keys of ours.
pub type Keys = Pair<PrivateKey>;

/// Who seals and opens packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    Kernel,
    #[default]
    Userspace,
}

impl Kind {
    /// The word of the configuration, of metrics and of `status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        }
    }
}

/// What a plane tells about itself.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub kind: Kind,
    /// Offloads in use: `tso uso gso gro`. None in the kernel's plane, which says nothing about them.
    pub offloads: Vec<&'static str>,
    /// Drops of datagrams that no peer was found for.
    pub drops: Drops,
    /// Cookies asked of others because handshakes were too many.
    pub cookies: u64,
    /// Such a cookie was asked for within the last five seconds.
    pub under_load: bool,
    /// Packets for which there is no peer, and packets too long for their path.
    pub unreachable: u64,
    pub too_big: u64,
    pub peers: BTreeMap<Name, PeerReport>,
}

/// What it tells about one peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct PeerReport {
    pub endpoint: Option<SocketAddr>,
    /// The address of ours that it was last heard at.
    pub local: Option<IpAddr>,
    pub last_handshake: Option<Instant>,
    pub rx_packets: u64,
    pub rx_octets: u64,
    pub tx_packets: u64,
    pub tx_octets: u64,
    pub handshakes_failed: u64,
    pub drops: Drops,
}
