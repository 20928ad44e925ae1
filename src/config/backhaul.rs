//! The `backhaul` section: the encrypted network between POPs, and who the others are.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::bgp::Secret;
use super::sixpn::{Fleet, Place};

/// The UDP port on which sealed datagrams of two others are carried, at our own address inside.
pub const RELAY_PORT: u16 = 51_821;

/// The encrypted network between POPs, as this one sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Backhaul {
    pub fleet: Fleet,
    /// Ours.
    pub place: Place,
    /// Made at the first start, and read by nobody but its owner. Default: `backhaul.key` in the state directory.
    pub private_key_file: Option<PathBuf>,
    /// Offered beside the other while keys rotate.
    pub next_private_key_file: Option<PathBuf>,
    pub backend: Backend,
    /// 1 to 15 characters; default edge6pn.
    pub interface: String,
    /// The UDP port. Default 51820.
    pub listen: u16,
    /// The longest packet inside, 1280 to 9000 octets. None: from the underlay.
    pub mtu: Option<u16>,
    pub offload: Offload,
    /// The TCP port at our node address where other POPs bring connections. Default 8082; None: nowhere.
    pub ingress: Option<u16>,
    /// Whether sealed datagrams of two others are carried. Default yes.
    pub relay: bool,
    pub probe: Probe,
    /// By the order of the file; at most 1,024.
    pub peers: Vec<Peer>,
}

/// Who seals and opens packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// The kernel where it can, otherwise userspace.
    #[default]
    Auto,
    Kernel,
    Userspace,
}

/// Switches of userspace's data plane. Default: both on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// Packets up to 64 KiB to and from the interface.
    pub tun: bool,
    /// Trains of datagrams to and from the socket.
    pub udp: bool,
}

/// How the paths to peers are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// 20 ms to 10 s; default 100 ms, and longer with more than a hundred peers.
    pub interval: Duration,
    /// An answer later than this is lost. 10 ms to 10 s; default 1 s.
    pub timeout: Duration,
    /// The UDP port, inside and outside. Default 51822.
    pub port: u16,
}

impl Default for Probe {
    fn default() -> Self {
        Self { interval: Duration::from_millis(100), timeout: Duration::from_secs(1), port: 51_822 }
    }
}

/// Another POP.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Its id: unique.
    pub pop: String,
    pub region: String,
    pub place: Place,
    pub public_key: [u8; 32],
    pub next_public_key: Option<[u8; 32]>,
    /// 32 octets.
    pub preshared_key: Option<Secret>,
    /// Where it may be reached, the best first; at most 8. Empty: it calls us.
    pub endpoints: Vec<Endpoint>,
    /// Where it takes connections in. Default 8082.
    pub ingress: u16,
    /// Between packets that keep the path open. Default 25 s; None: none.
    pub keepalive: Option<Duration>,
    /// Ports at our own infrastructure that it may use beside ingress, probes and relay. At most 32.
    pub allow: Vec<Port>,
}

/// Where a peer may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Address(SocketAddr),
    /// Asked for again and again.
    Name(String, u16),
}

/// A port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Backhaul {
    /// Our own address inside.
    #[must_use]
    pub fn node(&self) -> Ipv6Addr {
        self.fleet.node(self.place)
    }

    #[must_use]
    pub fn peer(&self, pop: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.pop == pop)
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}/{}", self.port)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
