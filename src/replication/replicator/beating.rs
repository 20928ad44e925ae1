//! Heartbeats of this POP, on their way out, and what is heard of the others, on its way to the decision.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

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

    /// How many other POPs there are, as far as is known here.
    fn others(&self) -> usize {
        let mut names: BTreeSet<&str> = self.config.peers.iter().map(|peer| peer.pop.as_str()).collect();
        names.extend(self.projection.fleet().pops.keys().map(|name| &**name));
        names.remove(self.replica.origin().as_str());
        names.len()
    }
}
