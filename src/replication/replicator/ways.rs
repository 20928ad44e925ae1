//! Who the others are, and where they are reached: through their tunnels, or outside.
#![expect(clippy::disallowed_methods, reason = "driver: asks for names of hosts")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::super::dial::Ways;
use super::super::relay_tree::Place;
use super::super::version::Origin;
use super::Replicator;
use crate::config::backhaul::Endpoint;
use crate::supervise::task::Task;

/// How often names of peers are asked for anew, and how long that may take.
const RESOLVE: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(3);

impl Replicator {
    /// Those that we know of and the fleet does not know to be down, with their regions.
    pub(super) fn members(&mut self) {
        let mut members = BTreeMap::new();
        for peer in &self.config.peers {
            if let Some(name) = Origin::new(&peer.pop) {
                members.insert(name, Place { region: peer.region.as_str().into() });
            }
        }
        for (name, member) in &self.projection.fleet().pops {
            if let (Some(pop), Some(name)) = (&member.pop, Origin::new(name)) {
                members.insert(name, Place { region: pop.region.as_str().into() });
            }
        }
        members.remove(self.replica.origin());
        for gone in self.membership.gone() {
            members.remove(gone);
        }
        self.replica.handle_members(members);
    }

    /// Where to connect to, as far as is known now.
    pub(super) fn want(&mut self, now: Instant) {
        let outside = self.ways.borrow_and_update().clone();
        let way = |(name, outside): (Origin, Vec<SocketAddr>)| {
            let inside = self.inside(&name);
            (name, Ways { inside, outside })
        };
        self.dials.want(&outside.into_iter().map(way).collect(), now);
    }

    /// The address of a peer through its tunnel, if that is up and both ends listen there.
    fn inside(&self, peer: &Origin) -> Option<SocketAddr> {
        self.config.port_inside()?;
        let tunnels = self.ends.tunnels.borrow();
        let tunnel = tunnels.get(peer.as_str()).filter(|tunnel| tunnel.up)?;
        let pop = self.projection.fleet().pops.get(peer.as_str())?.pop.as_ref()?;
        let port = pop.backhaul.as_ref()?.replication?;
        Some(SocketAddr::new(tunnel.node.into(), port))
    }

    /// Whether a connection comes through the peer's tunnel.
    pub(super) fn is_inside(&self, peer: &Origin, address: SocketAddr) -> bool {
        let tunnels = self.ends.tunnels.borrow();
        tunnels.get(peer.as_str()).is_some_and(|tunnel| address.ip() == tunnel.node)
    }

    /// Asks for the addresses of all peers, beside everything else.
    pub(super) fn resolve(&mut self, now: Instant) {
        self.resolve_at = now + RESOLVE;
        let mut peers: BTreeMap<Origin, Vec<Endpoint>> = BTreeMap::new();
        for peer in &self.config.peers {
            if let (Some(name), Some(address)) = (Origin::new(&peer.pop), &peer.address) {
                peers.entry(name).or_default().push(address.clone());
            }
        }
        for (name, member) in &self.projection.fleet().pops {
            let address = member.pop.as_ref().and_then(|pop| pop.replication).map(Endpoint::Address);
            if let (Some(name), Some(address)) = (Origin::new(name), address) {
                let ways = peers.entry(name).or_default();
                if !ways.contains(&address) {
                    ways.push(address);
                }
            }
        }
        peers.remove(self.replica.origin());
        let resolved = Arc::clone(&self.resolved);
        self._resolving = Some(Task::spawn("resolve", async move {
            let mut ways = BTreeMap::new();
            for (name, endpoints) in peers {
                let mut found = Vec::new();
                for endpoint in endpoints {
                    match endpoint {
                        Endpoint::Address(address) => found.push(address),
                        Endpoint::Name(host, port) => {
                            let asked = timeout(ANSWER, tokio::net::lookup_host((host.as_str(), port)));
                            if let Ok(Ok(addresses)) = asked.await {
                                found.extend(addresses.take(8));
                            }
                        }
                    }
                }
                ways.insert(name, found);
            }
            resolved.send_replace(ways);
        }));
    }
}
