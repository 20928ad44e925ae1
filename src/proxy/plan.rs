//! What the workers are to do: which doors to open, and where each leads.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::admission::Admission;
use super::tally::Tally;
use super::tls::expiry::{self, Certificate};
use super::tls::store::{Names, Route, Terminate};
use super::tls::tickets::Tickets;
use super::udp::datagrams::Datagrams;
use crate::catalog::traffic::{FlowBook, Flows};
use crate::config::Config;
use crate::config::listen::{Limits, Listen, Protocol, Security, ServerName, SocketOptions, Tls};
use crate::config::proxy::Proxy;
use crate::config::services::Timeouts;

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
    /// For what a client must say before it is taken anywhere.
    pub handshake: Duration,
    pub flows: Arc<Flows>,
    pub standing: Arc<Standing>,
    pub admission: Arc<Admission>,
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
    /// The client's ClientHello says which.
    Named(Arc<Names>),
    /// Another POP says which, and which backend of ours.
    Ingress,
}

/// What all workers do.
#[derive(Debug, Default)]
pub struct Plan {
    pub limits: Proxy,
    pub doors: BTreeMap<DoorKey, Arc<Door>>,
    /// By service.
    pub tallies: BTreeMap<Arc<str>, Arc<Tally>>,
    /// What clients are shown.
    pub certificates: Arc<[Certificate]>,
    /// Keys of TLS sessions, which the workers tell the time.
    pub tickets: Arc<Tickets>,
    /// This POP's id, as backends may be told it.
    pub pop: Arc<str>,
    /// How many workers share this plan.
    pub workers: u32,
}

/// Makes plans; keeps what must outlive each.
#[derive(Debug)]
pub struct Planner {
    flows: FlowBook,
    standings: BTreeMap<DoorKey, (Arc<Standing>, Arc<Admission>)>,
    terminations: Vec<(Arc<Tls>, Terminate)>,
    tickets: Arc<Tickets>,
    tallies: BTreeMap<Arc<str>, Arc<Tally>>,
    workers: u32,
}

impl Planner {
    /// For so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            flows: FlowBook::new(),
            standings: BTreeMap::new(),
            terminations: Vec::new(),
            tickets: Arc::default(),
            tallies: BTreeMap::new(),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
        }
    }

    /// The plan of a configuration. What cannot be opened says why in its door's standing.
    pub fn plan(&mut self, config: &Config) -> Plan {
        let mut doors: BTreeMap<DoorKey, Door> = BTreeMap::new();
        let mut names: BTreeMap<DoorKey, Names> = BTreeMap::new();
        let before = std::mem::take(&mut self.terminations);
        let ingress = config
            .backhaul
            .as_ref()
            .and_then(|it| Some((it, SocketAddr::new(it.node().into(), it.ingress?))));
        for (name, service) in &config.services {
            let name: Arc<str> = name.as_str().into();
            let is_asked_for = ingress.is_some() && service.backends.iter().any(|it| it.pop.is_none());
            if !service.listen.is_empty() || is_asked_for {
                self.tallies.entry(Arc::clone(&name)).or_default();
            }
            for listen in &service.listen {
                let route = self.route(listen, &name, &before);
                for port in listen.ports.clone() {
                    let key =
                        DoorKey { protocol: listen.protocol, address: SocketAddr::new(listen.address, port) };
                    let (standing, admission) = self.standings.entry(key).or_default().clone();
                    let entrance = match &route {
                        Ok(None) => Entrance::Service(Arc::clone(&name)),
                        Ok(Some((asked, route))) => {
                            names.entry(key).or_default().add(asked, route);
                            // Put in place when all services of the door are known.
                            Entrance::Named(Arc::default())
                        }
                        Err(why) => {
                            standing.explain(Some(why.clone()));
                            continue;
                        }
                    };
                    let flows = Arc::clone(self.flows.entry(key.address).or_default());
                    let handshake = service.forwarding.timeouts.handshake;
                    // Services that share a door agree on its socket, or the last of them has its way.
                    doors.insert(
                        key,
                        Door {
                            key,
                            socket: listen.socket,
                            limits: listen.limits,
                            proxy_from: listen.proxy_from.clone(),
                            entrance,
                            handshake,
                            flows,
                            standing,
                            admission,
                        },
                    );
                }
            }
        }
        if let Some((backhaul, address)) = ingress {
            let key = DoorKey { protocol: Protocol::Tcp, address };
            let (standing, admission) = self.standings.entry(key).or_default().clone();
            let door = Door {
                key,
                socket: SocketOptions::default(),
                limits: Limits::default(),
                // Whoever else reaches it has no business here: without a header nobody is taken anywhere.
                proxy_from: vec![backhaul.fleet.prefix().into()],
                entrance: Entrance::Ingress,
                handshake: Timeouts::default().handshake,
                flows: Arc::clone(self.flows.entry(address).or_default()),
                standing,
                admission,
            };
            doors.insert(key, door);
        }
        for (key, names) in names {
            if let Some(door) = doors.get_mut(&key) {
                door.entrance = Entrance::Named(Arc::new(names));
            }
        }
        self.standings.retain(|key, _| doors.contains_key(key));
        self.tallies.retain(|name, _| config.services.contains_key(&**name));
        let doors = doors.into_iter().map(|(key, door)| (key, Arc::new(door))).collect();
        let limits = config.proxy.clone();
        self.tickets.set_interval(limits.ticket_rotation);
        let tickets = Arc::clone(&self.tickets);
        Plan {
            limits,
            doors,
            tallies: self.tallies.clone(),
            certificates: expiry::certificates(config).into(),
            tickets,
            pop: config.pop.id.as_str().into(),
            workers: self.workers,
        }
    }

    /// How clients of a listener find this service by name; None where they need no name.
    fn route(
        &mut self,
        listen: &Listen,
        service: &Arc<str>,
        before: &[(Arc<Tls>, Terminate)],
    ) -> Result<Option<(Vec<ServerName>, Route)>, String> {
        let service = Arc::clone(service);
        match &listen.security {
            Security::Plain => Ok(None),
            Security::Passthrough { names } => Ok(Some((names.clone(), Route { service, terminate: None }))),
            Security::Terminate(tls) => {
                // What did not change stays, so that a certificate of our own does too.
                let terminate = match before.iter().position(|(known, _)| known == tls) {
                    Some(at) => before[at].1.clone(),
                    None => Terminate::new(tls, &self.tickets)?,
                };
                self.terminations.push((Arc::clone(tls), terminate.clone()));
                Ok(Some((tls.names.clone(), Route { service, terminate: Some(terminate) })))
            }
        }
    }

    /// The counts of all addresses that are, or were, listened at.
    #[must_use]
    pub fn flows(&self) -> &FlowBook {
        &self.flows
    }
}
