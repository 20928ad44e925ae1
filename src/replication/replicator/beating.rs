//! What is said in datagrams: how this POP stands for its prefixes, and who is alive.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info, warn};

use super::super::version::Origin;
use super::super::{heartbeat, membership};
use super::Replicator;

impl Replicator {
    /// Sends and tells what is due.
    pub(super) fn beat(&mut self, now: Instant) {
        self.heartbeats.handle_timeout(now);
        while let Some((to, octets)) = self.heartbeats.poll_transmit() {
            // What cannot be sent now is said again soon.
            if let Some(link) = self.links.get(&to) {
                let _ = link.connection.send_datagram(octets.into());
            }
        }
        let (own, members) = (self.replica.origin().clone(), self.others());
        if let Some(heard) = self.heartbeats.poll_heard(&own, members, now) {
            self.ends.heard.send_replace(Arc::new(heard));
        }
    }

    pub(super) fn datagram(&mut self, peer: &Origin, octets: &[u8], now: Instant) {
        match octets.first() {
            Some(&heartbeat::KIND) => {
                if let Err(error) = self.heartbeats.handle_datagram(peer, octets, now) {
                    debug!(%peer, "a heartbeat: {error}");
                }
            }
            Some(&membership::KIND) => {
                if let Err(error) = self.membership.handle_datagram(peer, octets, now) {
                    debug!(%peer, "membership: {error}");
                }
            }
            // Of a later version.
            _ => {}
        }
    }

    /// Membership: sends what is due, and takes over who is alive.
    pub(super) fn gather(&mut self, now: Instant) {
        let own = self.replica.ledger().head(self.replica.origin());
        self.membership.handle_life(own.map_or(0, |signed| signed.head.point.incarnation), now);
        if self.membership.next_deadline() <= now {
            self.membership.handle_timeout(now);
        }
        self.tell_members();
        if self.membership.poll_changed() {
            self.dirty = true;
            match (self.membership.doubt(), self.doubted) {
                (Some(doubt), false) => warn!(
                    "{} of {} POPs vanished within a minute: it is rather this POP that is cut off, and nothing is                      concluded from it",
                    doubt.vanished, doubt.of
                ),
                (None, true) => info!("this POP does not doubt itself any more"),
                _ => {}
            }
            self.doubted = self.membership.doubt().is_some();
            self.members();
        }
    }

    /// Tells the fleet that this POP goes.
    pub(super) fn leave(&mut self, now: Instant) {
        self.membership.leave(now);
        self.tell_members();
    }

    fn tell_members(&mut self) {
        while let Some((to, octets)) = self.membership.poll_transmit() {
            // Who is not connected is asked for through others.
            if let Some(link) = self.links.get(&to) {
                let _ = link.connection.send_datagram(octets.into());
            }
        }
    }

    pub(super) fn is_current(&self, name: &str) -> bool {
        let origin = Origin::new(name);
        origin.is_some_and(|name| name == *self.replica.origin() || self.membership.is_current(&name))
    }

    /// How many other POPs there are, as far as is known here.
    fn others(&self) -> usize {
        let mut names: BTreeSet<&str> = self.config.peers.iter().map(|peer| peer.pop.as_str()).collect();
        names.extend(self.projection.fleet().pops.keys().map(|name| &**name));
        names.remove(self.replica.origin().as_str());
        names.len()
    }
}
