//! What the workers are to do: which doors to open, and where each leads.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use ipnetwork::IpNetwork;

use crate::catalog::traffic::{FlowBook, Flows};
use crate::config::Config;
use crate::config::listen::{Limits, Listen, Protocol, Security, SocketOptions};
use crate::config::proxy::Proxy;

/// Where clients come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DoorKey {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

impl fmt::Display for DoorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => self.address.fmt(f),
            Protocol::Udp => write!(f, "{}/udp", self.address),
        }
    }
}

/// One door, the same at every worker.
#[derive(Debug)]
pub struct Door {
    pub key: DoorKey,
    pub socket: SocketOptions,
    pub limits: Limits,
    /// Who must begin with a PROXY header.
    pub proxy_from: Vec<IpNetwork>,
    pub entrance: Entrance,
    pub flows: Arc<Flows>,
    /// Connections open here, over all workers.
    pub open: Arc<AtomicU32>,
}

/// How a door finds the service.
#[derive(Debug)]
pub enum Entrance {
    /// There is only one.
    Service(Arc<str>),
}

/// What all workers do.
#[derive(Debug, Default)]
pub struct Plan {
    pub limits: Proxy,
    pub doors: BTreeMap<DoorKey, Arc<Door>>,
}

/// Makes plans; keeps what must outlive each.
#[derive(Debug, Default)]
pub struct Planner {
    flows: FlowBook,
    open: BTreeMap<DoorKey, Arc<AtomicU32>>,
}

impl Planner {
    /// The plan of a configuration.
    pub fn plan(&mut self, config: &Config) -> Plan {
        let mut doors = BTreeMap::new();
        for (name, service) in &config.services {
            let name: Arc<str> = name.as_str().into();
            for listen in &service.listen {
                for port in listen.ports.clone() {
                    let door = self.door(listen, port, &name);
                    doors.insert(door.key, Arc::new(door));
                }
            }
        }
        self.open.retain(|key, _| doors.contains_key(key));
        Plan { limits: config.proxy.clone(), doors }
    }

    /// The counts of all addresses that are, or were, listened at.
    #[must_use]
    pub fn flows(&self) -> &FlowBook {
        &self.flows
    }

    fn door(&mut self, listen: &Listen, port: u16, service: &Arc<str>) -> Door {
        let key = DoorKey { protocol: listen.protocol, address: SocketAddr::new(listen.address, port) };
        let entrance = match &listen.security {
            Security::Plain | Security::Terminate(_) | Security::Passthrough { .. } => {
                Entrance::Service(Arc::clone(service))
            }
        };
        Door {
            key,
            socket: listen.socket,
            limits: listen.limits,
            proxy_from: listen.proxy_from.clone(),
            entrance,
            flows: Arc::clone(self.flows.entry(listen.address).or_default()),
            open: Arc::clone(self.open.entry(key).or_default()),
        }
    }
}
