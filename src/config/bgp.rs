//! The `bgp` section: this speaker and its neighbors.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// An autonomous system number, four octets (RFC 6793); never 0 (RFC 7607).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(pub u32);

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An address family that a session carries; unicast only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// The `bgp` section.
#[derive(Debug, Clone, PartialEq)]
pub struct Bgp {
    pub asn: Asn,
    /// The BGP identifier (RFC 4271 §4.2), never 0.0.0.0.
    pub router_id: Ipv4Addr,
    /// Where sessions are accepted. Default: port 179 on `0.0.0.0` and `::`; an empty list only dials.
    pub listen: Vec<SocketAddr>,
    /// How a planned stop goes.
    pub shutdown: Shutdown,
    /// In the order of the file; names and addresses are unique.
    pub neighbors: Vec<Neighbor>,
}

/// The words and the patience of a planned stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// How long prefixes stay announced with GRACEFUL_SHUTDOWN (RFC 8326) before they are withdrawn.
    /// Default 1 s, at most 10 min; 0 withdraws at once.
    pub graceful: Duration,
    /// The shutdown communication (RFC 9003), at most 128 octets of UTF-8.
    pub text: String,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { graceful: Duration::from_secs(1), text: "edgeproxy: planned stop".to_owned() }
    }
}

/// One neighbor: whom we peer with and what it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbor {
    /// Unique: 1 to 63 of `a-z A-Z 0-9 . _ -`.
    pub name: String,
    pub address: IpAddr,
    /// Default 179.
    pub port: u16,
    pub asn: Asn,
    /// Sorted, without repeats, never empty. Default: the family of `address`.
    pub families: Vec<Family>,
    /// The address our connections start from. Default: the kernel chooses.
    pub source: Option<IpAddr>,
    /// Only accept, never dial. Default false.
    pub passive: bool,
    /// TCP-MD5 (RFC 2385), read from `password_file`; 1 to 80 octets.
    pub password: Option<Secret>,
    /// GTSM (RFC 5082): how many hops away the neighbor may be, 1 to 254. Excludes `multihop`.
    pub ttl_security: Option<u8>,
    /// An external neighbor that is not directly connected: the TTL we send with, 2 to 255. A neighbor
    /// in our own AS may be anywhere and has none.
    pub multihop: Option<u8>,
    /// Proposed hold time; 0 (none) or 3 s to 65535 s in whole seconds. Default 90 s.
    pub hold_time: Duration,
    /// First idle hold and connect retry; it doubles with each failure up to 16 times this,
    /// at most 120 s. 1 s to 120 s; default 5 s.
    pub connect_retry: Duration,
    /// More distinct prefixes than this, over all families, close the session with Cease/1. Default: no limit.
    pub max_prefixes: Option<u32>,
    /// Next hops given; where None it is our own address of the session (RFC 4271 §5.1.3).
    pub next_hop: NextHop,
    /// What is added to every route sent to this neighbor.
    pub export: Attributes,
    /// Added besides to routes that are de-preferred on a brown-out.
    pub degrade: Attributes,
    /// Added besides to routes that drain.
    pub drain: Attributes,
}

/// Next hops given by the operator, per family of the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NextHop {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// Path attributes that an operator may choose.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct Attributes {
    /// How many times our AS number is put in front once more, 0 to 16.
    pub prepend: u8,
    /// MULTI_EXIT_DISC (RFC 4271 §5.1.4).
    pub med: Option<u32>,
    /// RFC 1997, sorted, without repeats, at most 32.
    pub communities: Vec<Community>,
    /// RFC 8092, sorted, without repeats, at most 32.
    pub large_communities: Vec<LargeCommunity>,
}

/// A community (RFC 1997), written `asn:value` or by its well-known name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326 §5).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xFFFF_0000);
    /// BLACKHOLE (RFC 7999 §5).
    pub const BLACKHOLE: Self = Self(0xFFFF_029A);
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xFFFF_FF01);
    /// NO_ADVERTISE (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xFFFF_FF02);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

/// A large community (RFC 8092), written `global:local1:local2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}

/// A secret read from a file. It never shows itself in logs or debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps the octets.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(octets)
    }

    /// The octets, for the one place that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
