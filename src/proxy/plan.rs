//! What the workers are to do: which doors to open, and where each leads.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use ipnetwork::IpNetwork;

use super::tally::Tally;
use super::udp::datagrams::Datagrams;
use super::udp::room::Crowd;
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
    pub standing: Arc<Standing>,
}

/// How a door stands, over all workers.
#[derive(Debug, Default)]
pub struct Standing {
    /// Connections open here, or flows.
    pub open: AtomicU32,
    /// Workers that listen here.
    pub listening: AtomicU32,
    /// What a door of datagrams carried.
    pub datagrams: Datagrams,
    /// Who has flows through a door of datagrams.
    pub crowd: Crowd,
    /// Why one of them does not listen.
    error: Mutex<Option<String>>,
}

impl Standing {
    /// Says why a worker does not listen, or that it does.
    pub fn explain(&self, error: Option<String>) {
        // Text only: whoever died while it held this left nothing half done.
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why a worker does not listen.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
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
    /// By service.
    pub tallies: BTreeMap<Arc<str>, Arc<Tally>>,
    /// How many workers share this plan.
    pub workers: u32,
}

/// Makes plans; keeps what must outlive each.
#[derive(Debug, Default)]
pub struct Planner {
    flows: FlowBook,
    standings: BTreeMap<DoorKey, Arc<Standing>>,
    tallies: BTreeMap<Arc<str>, Arc<Tally>>,
    workers: u32,
}

impl Planner {
    /// For so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { workers: u32::try_from(workers).unwrap_or(u32::MAX), ..Self::default() }
    }

    /// The plan of a configuration.
    pub fn plan(&mut self, config: &Config) -> Plan {
        let mut doors = BTreeMap::new();
        for (name, service) in &config.services {
            let name: Arc<str> = name.as_str().into();
            if !service.listen.is_empty() {
                self.tallies.entry(Arc::clone(&name)).or_default();
            }
            for listen in &service.listen {
                for port in listen.ports.clone() {
                    let door = self.door(listen, port, &name);
                    doors.insert(door.key, Arc::new(door));
                }
            }
        }
        self.standings.retain(|key, _| doors.contains_key(key));
        self.tallies.retain(|name, _| config.services.contains_key(&**name));
        Plan { limits: config.proxy.clone(), doors, tallies: self.tallies.clone(), workers: self.workers }
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
            standing: Arc::clone(self.standings.entry(key).or_default()),
        }
    }
}
