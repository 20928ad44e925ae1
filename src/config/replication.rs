//! The `fleet` and `replication` sections: whom we belong to, and how POPs tell each other what they know.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use super::backhaul::Endpoint;

/// UDP.
pub const PORT: u16 = 4002;

/// Both sections: neither is of use without the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Replication {
    /// The fleet's name, which its certificates carry: 1 to 63 of `a-z 0-9 . -`.
    pub fleet: String,
    /// POPs that grant permits: none, 3 or 5.
    pub voters: Vec<String>,
    /// UDP. Default `[::]:4002`. Where it is one address, nothing goes through the tunnels.
    pub listen: SocketAddr,
    /// Where the others reach us from outside. None: their configurations know.
    pub advertise: Option<SocketAddr>,
    /// Names this POP in this fleet, and one of the authorities has signed it.
    pub certificate: Vec<u8>,
    pub key: Key,
    /// 1 to 8 certificates, two sets of them during a rotation.
    pub authorities: Vec<Vec<u8>>,
    /// In the order of the file, at most 1,024, each POP once. Others are heard of from these.
    pub peers: Vec<Peer>,
    pub limits: Limits,
}

impl Replication {
    /// The port that is open inside the 6PN too. None: it is open at one address outside alone.
    #[must_use]
    pub fn port_inside(&self) -> Option<u16> {
        let everywhere = self.listen.ip() == Ipv6Addr::UNSPECIFIED;
        everywhere.then_some(self.listen.port())
    }
}

/// Ed25519 in PKCS #8. Its octets are shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// A POP that is known from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its `pop.id`.
    pub pop: String,
    /// Its `pop.region`.
    pub region: String,
    /// Outside. None: it calls us.
    pub address: Option<Endpoint>,
}

/// How much is kept of what POPs say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one POP: 100 to 1,000,000. Default 20,000.
    pub rows: u64,
    /// In memory, of one POP, about: 1 MiB to 1 GiB. Default 16 MiB.
    pub octets: u64,
    /// What one POP may write for long: 10 to 1,000,000. Default 5,000; four times as many at once. What is beyond that
    /// is taken later.
    pub rows_per_second: u64,
    /// Of all of them. Default 2,000,000.
    pub total_rows: u64,
    /// Default 1 GiB.
    pub total_octets: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 20_000,
            octets: 16 << 20,
            rows_per_second: 5_000,
            total_rows: 2_000_000,
            total_octets: 1 << 30,
        }
    }
}
