//! The `backhaul` section: our place in the 6PN, and the POPs that we keep tunnels with.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::base64;
use super::listen::Protocol;
use super::sixpn::{Fleet, Place};

/// Where sealed datagrams for a third POP arrive, over UDP at our address inside. Not configurable: both ends of a
/// relayed path must know it without asking.
pub const RELAY_PORT: u16 = 51821;

/// The section. Addresses of this POP: `fleet.subnet(place)`, `fleet.node(place)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Backhaul {
    pub fleet: Fleet,
    /// Ours.
    pub place: Place,
    /// Absolute. Not read with the configuration, since it is made at the first start; `key_file` does both.
    /// Default `/var/lib/edgeproxy/backhaul.key`.
    pub private_key_file: PathBuf,
    /// The key that we move to, offered beside the present one. Default none.
    pub next_private_key_file: Option<PathBuf>,
    pub backend: PlaneChoice,
    /// 1 to 15 octets of `a-z A-Z 0-9 . _ -`. Default `edge6pn`.
    pub interface: String,
    /// UDP. Default 51820.
    pub listen: u16,
    /// Of packets inside: 1280 to 9000. None, the default: what the way outside leaves.
    pub mtu: Option<u16>,
    /// Userspace: segmentation offload on the TUN. Default true.
    pub offload_tun: bool,
    /// Userspace: UDP GSO and GRO. Default true.
    pub offload_udp: bool,
    /// TCP port of our node address where other POPs bring connections with PROXY v2. Default 8082; None: nowhere.
    pub ingress: Option<u16>,
    /// UDP port where other POPs reach replication inside, by the section `replication`. None: outside alone.
    pub replication: Option<u16>,
    /// Whether we carry sealed datagrams between two of our peers. Default true.
    pub relay: bool,
    pub probe: Probe,
    /// Whether the other POPs of the fleet are peers too, as they tell of themselves. Default true; it needs
    /// `replication`. What is in `peers` goes before what a POP says.
    pub from_fleet: bool,
    /// In the order of the file, at most 1,024. POPs, places, keys and endpoints are unique.
    pub peers: Vec<Peer>,
}

impl Backhaul {
    /// Our own address inside.
    #[must_use]
    pub fn node(&self) -> Ipv6Addr {
        self.fleet.node(self.place)
    }

    /// The peer of this name.
    #[must_use]
    pub fn peer(&self, pop: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.pop == pop)
    }

    /// The peer at a place.
    #[must_use]
    pub fn peer_at(&self, place: Place) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.place == place)
    }
}

/// Who encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlaneChoice {
    /// The kernel if it can, otherwise we.
    #[default]
    Auto,
    Kernel,
    Userspace,
}

impl fmt::Display for PlaneChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}

/// How paths are measured, inside the tunnels and outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// From one question to the next on one path. 50 ms to 60 s; default 100 ms, and longer with more than a hundred peers.
    pub interval: Duration,
    /// Without an answer for this long a path is broken. `interval` to 60 s; default 1 s, or `interval` if that is more.
    pub timeout: Duration,
    /// UDP, at our address inside and at those outside. Default 51822.
    pub port: u16,
}

impl Default for Probe {
    fn default() -> Self {
        Self { interval: Duration::from_millis(100), timeout: Duration::from_secs(1), port: 51822 }
    }
}

/// Another POP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its `pop.id`.
    pub pop: String,
    /// Its `pop.region`.
    pub region: String,
    pub place: Place,
    /// Curve25519, never all zeros.
    pub public_key: [u8; 32],
    /// The key that it moves to. Default none.
    pub next_public_key: Option<[u8; 32]>,
    /// Read from `preshared_key_file`. Default none.
    pub preshared: Option<Preshared>,
    /// Where it may be reached, at most 8. Empty: it calls us.
    pub endpoints: Vec<Endpoint>,
    /// TCP port of its node address where it takes connections with PROXY v2. Default 8082.
    pub ingress: u16,
    /// 1 s to 65535 s in whole seconds; None: never. Default 25 s.
    pub keepalive: Option<Duration>,
    /// Ports of our infrastructure addresses that it may reach beside ingress, probes and relay; at most 32, sorted.
    /// Default none.
    pub allow: Vec<Port>,
}

/// An outside address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Unicast, outside the fleet, port not 0.
    Address(SocketAddr),
    /// A lower-case DNS name, resolved again and again, and a port that is not 0.
    Name(String, u16),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// A port of our infrastructure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    pub protocol: Protocol,
    /// Not 0.
    pub port: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol}/{}", self.port)
    }
}

/// A key that two peers share beside their own (WireGuard's `PresharedKey`). It never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Preshared([u8; 32]);

impl Preshared {
    #[must_use]
    pub fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The octets, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Preshared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Preshared(…)")
    }
}

/// A key as `wg` writes and reads it: 44 letters of base64.
#[must_use]
pub fn key_text(key: &[u8; 32]) -> String {
    base64::encode(key)
}

/// The 32 octets of a key as `wg` writes it; None for anything else.
#[must_use]
pub fn key_octets(text: &str) -> Option<[u8; 32]> {
    base64::decode(text)?.try_into().ok()
}
