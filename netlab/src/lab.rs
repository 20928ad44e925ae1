//! A scenario's network, built and running: hosts, links, routers, services, captures.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::address_watch::AddressWatch;
use crate::bgp_stream::Event;
use crate::capture::{self, Capture};
use crate::collector::{self, Collector};
use crate::edgeproxy::EdgeProxy;
use crate::emulator::Emulator;
use crate::link;
use crate::moment::Moment;
use crate::namespace::Namespace;
use crate::node::router::Router;
use crate::node::{bird::Bird, exabgp::Exabgp, frr::Frr, gobgp::Gobgp};
use crate::scenario::{Host, Scenario};
use crate::service::Service;
use crate::wireguard::Tunnel;

/// One host with everything in it.
pub struct Node {
    pub namespace: Namespace,
    pub router: Option<Box<dyn Router>>,
    pub exabgp: Option<Exabgp>,
    pub collector: Option<Collector>,
    pub edgeproxy: Option<EdgeProxy>,
    /// Of another implementation.
    pub tunnel: Option<Tunnel>,
    pub services: BTreeMap<String, Service>,
    /// The configuration that edgeproxy was last given.
    pub yaml: String,
    addresses: Option<AddressWatch>,
}

/// The running network. Dropping it ends every process; its namespaces go with them.
pub struct Lab {
    // Captures first: they hold namespaces too.
    pub captures: BTreeMap<String, Capture>,
    pub emulators: BTreeMap<String, Emulator>,
    pub nodes: BTreeMap<String, Node>,
    pub work: PathBuf,
}

impl Lab {
    /// Builds and starts everything: links, captures, services, collectors, routers, edgeproxies.
    ///
    /// # Errors
    /// With the host and what failed.
    pub fn build(scenario: &Scenario, work: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(work)?;
        let mut lab = Self {
            captures: BTreeMap::new(),
            emulators: BTreeMap::new(),
            nodes: BTreeMap::new(),
            work: work.to_owned(),
        };
        for name in scenario.hosts.keys() {
            let directory = work.join(name);
            std::fs::create_dir_all(&directory)?;
            lab.nodes.insert(
                name.clone(),
                Node {
                    namespace: Namespace::create(name)?,
                    router: None,
                    exabgp: None,
                    collector: None,
                    edgeproxy: None,
                    tunnel: None,
                    services: BTreeMap::new(),
                    yaml: String::new(),
                    addresses: None,
                },
            );
        }
        for link in &scenario.links {
            let [a, b] = &link.ends;
            let end = |end: &crate::scenario::LinkEnd| lab.node(&end.host).map(|node| node.namespace.clone());
            let (host_a, host_b) = (end(a)?, end(b)?);
            link::connect(
                &link::End { host: &host_a, interface: &a.interface, addresses: &a.addresses },
                &link::End { host: &host_b, interface: &b.interface, addresses: &b.addresses },
            )?;
        }
        for (name, host) in &scenario.hosts {
            lab.configure(name, host).map_err(|error| place(name, &error))?;
        }
        for (name, spec) in &scenario.captures {
            let mut filter = capture::Options::default().filter;
            filter.tcp_ports.clone_from(&spec.ports);
            filter.tally.clone_from(&spec.tally);
            let options = capture::Options { filter, pcap: Some(work.join(format!("{name}.pcap"))) };
            let capture = lab.node(&spec.host)?.namespace.run(|| Capture::start(&spec.interface, options))?;
            lab.captures.insert(name.clone(), capture.map_err(io::Error::other)?);
        }
        for (name, spec) in &scenario.emulators {
            let start = || Emulator::start(spec.listen, spec.to, spec.with);
            let emulator = lab.node(&spec.at)?.namespace.run(start)?;
            lab.emulators.insert(name.clone(), emulator.map_err(|error| place(name, &error))?);
        }
        for (name, host) in &scenario.hosts {
            lab.populate(name, host).map_err(|error| place(name, &error))?;
        }
        for (name, host) in &scenario.hosts {
            if let Some(spec) = &host.edgeproxy {
                let directory = work.join(name);
                let node = lab.node_mut(name)?;
                let mut edgeproxy = EdgeProxy::new(&node.namespace, &directory, &spec.config, &spec.secrets)?;
                edgeproxy.set_descriptors(spec.descriptors);
                edgeproxy.set_state_size(spec.state_size.clone());
                if spec.start {
                    edgeproxy.start().map_err(|error| place(name, &error))?;
                }
                node.edgeproxy = Some(edgeproxy);
                node.yaml.clone_from(&spec.config);
            }
        }
        Ok(lab)
    }

    fn configure(&mut self, name: &str, host: &Host) -> io::Result<()> {
        let node = self.node_mut(name)?;
        if host.forward {
            node.namespace.sysctl("net/ipv4/ip_forward", "1")?;
            node.namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        for address in &host.loopback {
            node.namespace.ip(&["addr", "add", address, "dev", "lo"])?;
        }
        for route in &host.routes {
            let mut arguments = if route.contains("::") { vec!["-6"] } else { vec![] };
            arguments.extend(["route", "add"]);
            arguments.extend(route.split_whitespace());
            node.namespace.ip(&arguments)?;
        }
        if host.edgeproxy.is_some() {
            node.addresses = Some(node.namespace.run(AddressWatch::start)??);
        }
        Ok(())
    }

    fn populate(&mut self, name: &str, host: &Host) -> io::Result<()> {
        let directory = self.work.join(name);
        let node = self.node_mut(name)?;
        for service in &host.services {
            node.services.insert(service.name.clone(), Service::start(&node.namespace, service, &directory)?);
        }
        if let Some(spec) = &host.collector {
            let options = collector::Options::listen(spec.asn, spec.router_id, spec.listen);
            let collector = node.namespace.run(|| Collector::start(options))?;
            node.collector = Some(collector.map_err(io::Error::other)?);
        }
        if let Some(spec) = &host.exabgp {
            let (router, check) = (spec.router.clone(), spec.check.clone());
            let mut exabgp = Exabgp::new(&node.namespace, &directory, router, Some(check))?;
            exabgp.start()?;
            node.exabgp = Some(exabgp);
        }
        if let Some(config) = &host.wireguard {
            let mut tunnel = Tunnel::new(&node.namespace, &directory, config.clone())?;
            if config.start {
                tunnel.start()?;
            }
            node.tunnel = Some(tunnel);
        }
        let namespace = &node.namespace;
        let mut router: Box<dyn Router> = match (&host.bird, &host.frr, &host.gobgp) {
            (Some(config), None, None) => Box::new(Bird::new(namespace, &directory, config.clone())?),
            (None, Some(config), None) => Box::new(Frr::new(namespace, &directory, config.clone())?),
            (None, None, Some(config)) => Box::new(Gobgp::new(namespace, &directory, config.clone())?),
            (None, None, None) => return Ok(()),
            _ => return Err(io::Error::other("one host runs one router: choose bird, frr or gobgp")),
        };
        router.start()?;
        node.router = Some(router);
        Ok(())
    }

    /// A host.
    ///
    /// # Errors
    /// When the scenario names none of that name.
    pub fn node(&self, name: &str) -> io::Result<&Node> {
        self.nodes.get(name).ok_or_else(|| io::Error::other(format!("there is no host {name}")))
    }

    /// A host, to be changed.
    ///
    /// # Errors
    /// As [`node`](Self::node).
    pub fn node_mut(&mut self, name: &str) -> io::Result<&mut Node> {
        self.nodes.get_mut(name).ok_or_else(|| io::Error::other(format!("there is no host {name}")))
    }

    /// A capture.
    ///
    /// # Errors
    /// When the scenario names none of that name.
    pub fn capture(&self, name: &str) -> io::Result<&Capture> {
        self.captures.get(name).ok_or_else(|| io::Error::other(format!("there is no capture {name}")))
    }

    /// The first event of a capture after a moment that `wanted` accepts.
    ///
    /// # Errors
    /// As [`capture`](Self::capture).
    pub fn first(
        &self,
        capture: &str,
        after: Moment,
        wanted: impl Fn(&Event) -> bool,
    ) -> io::Result<Option<Moment>> {
        let capture = self.capture(capture)?;
        Ok(capture.look(|seen| seen.events.iter().find(|e| e.at >= after && wanted(e)).map(|e| e.at)))
    }

    /// The last lines of everything that has a log, for the words of a failure.
    #[must_use]
    pub fn tails(&mut self, lines: usize) -> String {
        let mut text = String::new();
        for (name, node) in &mut self.nodes {
            if let Some(edgeproxy) = &node.edgeproxy {
                text += &format!("--- {name}: edgeproxy\n{}\n", edgeproxy.tail(lines));
            }
            if let Some(tunnel) = &node.tunnel {
                text += &format!("--- {name}: tunnel\n{}\n", tunnel.tail(lines / 2));
            }
            if let Some(router) = &mut node.router
                && let Ok(process) = router.process_mut()
            {
                text += &format!("--- {name}: router\n{}\n", process.tail(lines / 2));
            }
        }
        text
    }
}

impl Node {
    /// A process in this host, through which its namespace can be entered.
    #[must_use]
    pub fn any_pid(&mut self) -> Option<u32> {
        let edgeproxy = self.edgeproxy.as_mut().and_then(EdgeProxy::pid);
        let router = self.router.as_mut().and_then(|router| Some(router.process_mut().ok()?.pid()));
        let tunnel = self.tunnel.as_mut().and_then(Tunnel::pid);
        edgeproxy.or(router).or(tunnel).or_else(|| self.services.values().next().map(Service::pid))
    }

    /// When an address first appeared on (or left) an interface of this host at or after `after`.
    #[must_use]
    pub fn address_event(&self, address: IpAddr, bound: bool, after: Moment) -> Option<Moment> {
        let changes = self.addresses.as_ref()?.changes();
        changes.iter().find(|c| c.address == address && c.bound == bound && c.at >= after).map(|c| c.at)
    }
}

fn place(host: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("host {host}: {error}"))
}
