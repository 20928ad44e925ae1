//! The network of a scenario: hosts with what runs in them, links, captures.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;

use super::values::yes;
use crate::node::exabgp::HealthCheck;
use crate::node::router::RouterConfig;
use crate::service::ServiceConfig;
use crate::wireguard::TunnelConfig;

/// One network namespace and what runs in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Forwards packets between its links.
    pub forward: bool,
    /// Addresses on its loopback, with prefix lengths.
    pub loopback: Vec<String>,
    /// Arguments of `ip route add` after `add`.
    pub routes: Vec<String>,
    pub bird: Option<RouterConfig>,
    pub frr: Option<RouterConfig>,
    pub gobgp: Option<RouterConfig>,
    pub exabgp: Option<ExabgpConfig>,
    pub collector: Option<CollectorConfig>,
    pub edgeproxy: Option<EdgeProxyConfig>,
    /// A tunnel of another implementation.
    pub wireguard: Option<TunnelConfig>,
    pub services: Vec<ServiceConfig>,
}

/// ExaBGP with its health check: the peer of a bench.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExabgpConfig {
    pub router: RouterConfig,
    pub check: HealthCheck,
}

/// netlab's own BGP neighbor, which stamps what it reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorConfig {
    pub asn: u32,
    pub router_id: Ipv4Addr,
    pub listen: SocketAddr,
}

/// The process under test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeProxyConfig {
    /// Its YAML, without `admin` and `observe`, which the lab adds.
    pub config: String,
    /// Files beside it: name to content.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// How many descriptors it may have, hard limit and all. Default: as many as netlab itself.
    pub descriptors: Option<u64>,
    /// Its state lies on a disk of its own of that size, such as `1m`. Default: beside its configuration.
    pub state_size: Option<String>,
    /// Started with the lab. Default true.
    #[serde(default = "yes")]
    pub start: bool,
}

/// A veth pair.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub ends: [LinkEnd; 2],
}

/// One end of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEnd {
    pub host: String,
    pub interface: String,
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// What is captured, where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    pub host: String,
    pub interface: String,
    /// TCP ports besides BGP's.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Addresses whose arriving packets are counted with their times.
    #[serde(default)]
    pub tally: Vec<IpAddr>,
}
