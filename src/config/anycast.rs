//! The `anycast` section: the prefixes of this POP and what each depends on.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

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
    pub drain: Drain,
    /// How many other POPs must announce it before this one withdraws it; 0: none, as if there were no fleet.
    /// At most 64; default 1. Of no meaning without a fleet.
    pub min_announcers: u32,
    /// None: a prefix is announced again as soon as its services are up.
    pub damping: Option<Damping>,
}

/// How the prefix leaves when an operator drains it, or when the process is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Added to the prefix's attributes while it drains, beside GRACEFUL_SHUTDOWN (RFC 8326).
    pub attributes: Attributes,
    /// Withdrawn after this at the latest. 1 s to 24 h; default 5 min.
    pub deadline: Duration,
    /// Quiet is at most this many new flows a second. Default 1.
    pub new_flows: u32,
    /// And at most this many open flows. Default 0.
    pub open_flows: u32,
    /// Withdrawn once it was quiet for this long without a break. At most 10 min; default 2 s.
    pub quiet_for: Duration,
    /// How long after the withdrawal flows are still served before the last of them are closed. At
    /// most 1 h; default 10 s.
    pub linger: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            attributes: Attributes::default(),
            deadline: Duration::from_secs(300),
            new_flows: 1,
            open_flows: 0,
            quiet_for: Duration::from_secs(2),
            linger: Duration::from_secs(10),
        }
    }
}

/// How an announcement that failed comes back: its services must stay up without a break for a while
/// that begins at `min_up`, doubles with each further failure and halves with each `decay` in peace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// 10 ms to 1 h; default 1 s.
    pub min_up: Duration,
    /// Not less than `min_up`, at most 24 h; default 5 min.
    pub max_dwell: Duration,
    /// 1 s to 24 h; default 10 min.
    pub decay: Duration,
}

impl Default for Damping {
    fn default() -> Self {
        Self {
            min_up: Duration::from_secs(1),
            max_dwell: Duration::from_secs(300),
            decay: Duration::from_secs(600),
        }
    }
}
