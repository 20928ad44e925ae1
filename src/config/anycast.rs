//! The `anycast` section: the prefixes of this POP and what each depends on.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::bgp::{Attributes, Family};

/// A prefix that this POP may announce. Host bits are zero; the length is 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnycastPrefix(IpNetwork);

impl AnycastPrefix {
    /// Takes a network whose host bits are zero and whose length is not 0.
    #[must_use]
    pub fn new(network: IpNetwork) -> Option<Self> {
        (network.network() == network.ip() && network.prefix() > 0).then_some(Self(network))
    }

    /// The network itself.
    #[must_use]
    pub fn network(self) -> IpNetwork {
        self.0
    }

    /// The family of its addresses.
    #[must_use]
    pub fn family(self) -> Family {
        Family::of(self.0.ip())
    }
}

impl fmt::Display for AnycastPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the operator says about a prefix, before any check is asked (decision rule 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Intent {
    /// Announced while it can be served.
    #[default]
    Up,
    /// Withdrawn, whatever the checks say.
    Down,
}

/// One anycast prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anycast {
    pub prefix: AnycastPrefix,
    /// Inside the prefix, without repeats; bound to `device` while the process runs. May be empty.
    pub addresses: Vec<IpAddr>,
    /// Interface that carries `addresses`. Default `lo`.
    pub device: String,
    /// Names of services that exist, without repeats, never empty: all must be up.
    pub services: Vec<String>,
    /// Default up.
    pub state: Intent,
    /// Path attributes of the prefix in good days.
    pub attributes: Attributes,
    /// Added to them on a brown-out (decision rule 8).
    pub degrade: Attributes,
}
