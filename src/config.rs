//! The configuration: one YAML file per POP, read whole, judged whole.
//!
//! This is the only room that reads YAML, files and the environment. What leaves it is typed,
//! complete (every default filled in) and consistent: no other room validates configuration again.

pub mod admin;
pub mod anycast;
pub mod backhaul;
mod base64;
pub mod bgp;
mod certificate;
mod decode;
pub mod diff;
pub mod duration;
pub mod environment;
pub mod generation;
pub mod geo;
pub mod health;
pub mod key_file;
pub mod listen;
pub mod load;
pub mod observe;
pub mod pop;
pub mod pop_certificate;
pub mod problem;
pub mod proxy;
mod read;
pub mod replication;
mod secret;
pub mod services;
pub mod signature;
pub mod sixpn;
pub mod size;
mod tree;
pub mod x509;

use std::collections::BTreeMap;
use std::sync::Arc;

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Only grows; 0 is not a generation.
    pub generation: u64,
    pub pop: pop::Pop,
    pub bgp: bgp::Bgp,
    /// By prefix, in the order of their text, so that iteration never depends on the file.
    pub anycast: BTreeMap<anycast::AnycastPrefix, anycast::Anycast>,
    /// By name.
    pub services: BTreeMap<String, services::Service>,
    pub health: health::Health,
    pub proxy: proxy::Proxy,
    /// None: this POP is alone.
    pub backhaul: Option<Arc<backhaul::Backhaul>>,
    /// None: this POP belongs to no fleet.
    pub replication: Option<Arc<replication::Replication>>,
    pub admin: admin::Admin,
    pub observe: observe::Observe,
}
