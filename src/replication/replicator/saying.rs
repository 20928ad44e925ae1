//! What this POP has to say of itself: its rows, written where they differ.

use std::collections::BTreeMap;

use super::super::replica::Ticket;
use super::super::tables::{Facts, changes};
use super::{Replicator, show};
use crate::catalog::fleet::Backend;

impl Replicator {
    /// Writes what this POP is, where it differs from what is written.
    pub(super) fn say(&mut self) {
        let own = self.replica.origin().clone();
        let facts = self.facts();
        let changes = changes(self.replica.ledger(), &own, &facts.rows());
        // One at a time: when it is written, this is looked at again.
        if !changes.is_empty() && self.persisting.is_none() {
            self.ticket += 1;
            self.replica.handle_write(Ticket(self.ticket), changes);
        }
    }

    pub(super) fn facts(&self) -> Facts {
        let (sources, verdicts) = (self.ends.sources.borrow(), self.ends.verdicts.borrow());
        let mut backends = BTreeMap::new();
        for (name, service) in &sources.services {
            for backend in service.backends.iter().filter(|backend| backend.pop.is_none()) {
                let known = verdicts.get(name.as_str()).and_then(|known| known.get(backend.id.as_str()));
                let state = match known.map(|known| known.verdict) {
                    _ if backend.drain => "draining",
                    Some(verdict) => verdict.word(),
                    None => "unproven",
                };
                let row = Backend {
                    address: backend.address,
                    port: backend.port,
                    region: backend.region.clone(),
                    country: backend.country.clone(),
                    weight: backend.weight,
                    state: state.to_owned(),
                };
                backends.insert((name.as_str().into(), backend.id.as_str().into()), row);
            }
        }
        let prefixes = self.ends.prefixes.borrow();
        let announcements =
            prefixes.iter().map(|prefix| (prefix.prefix.as_str().into(), show::announcement(prefix)));
        Facts {
            pop: (**self.ends.pop.borrow()).clone(),
            backends,
            announcements: announcements.collect(),
            links: self.distances.clone(),
        }
    }
}
