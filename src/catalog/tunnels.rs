//! How the tunnels to other POPs are, as the backhaul finds them.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

/// By POP.
pub type Tunnels = BTreeMap<Arc<str>, Tunnel>;

/// The tunnel to one POP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// The POP's address inside.
    pub node: Ipv6Addr,
    /// Whether it carries packets, be it through a third POP.
    pub up: bool,
    /// Inside; none before the first answer.
    pub rtt: Option<Duration>,
}
