//! What the other POPs are told of our prefixes, and since when they are told that we want to leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::FleetFact;
use crate::announce::decide::Announcement;
use crate::catalog::stance::{Heard, Stance, Stances};
use crate::config::anycast::{Anycast, AnycastPrefix};

/// What they are told.
#[derive(Debug, Default)]
pub struct Told {
    stances: Arc<Stances>,
    /// The first revision that says of a prefix that we do not stay, while that is so.
    leaving: BTreeMap<AnycastPrefix, u64>,
    /// Since when nobody announces a prefix that we have withdrawn because it failed.
    dark: BTreeMap<AnycastPrefix, Instant>,
}

impl Told {
    /// What is known of the others for a prefix; `last` is our own judgement.
    pub fn fact(
        &mut self,
        anycast: &Anycast,
        heard: &Arc<Heard>,
        last: &Announcement,
        now: Instant,
    ) -> FleetFact {
        let prefix = &anycast.prefix;
        let mut fact = FleetFact {
            prefix: prefix.network(),
            min_announcers: anycast.min_announcers,
            heard: heard.clone(),
            told: self.leaving.get(prefix).copied(),
            dark_since: None,
        };
        if matches!(last.stance(), Stance::Failed(_)) && fact.is_dark(now) {
            fact.dark_since = Some(*self.dark.entry(*prefix).or_insert(now));
        } else {
            self.dark.remove(prefix);
        }
        fact
    }

    /// Takes the judgements of all prefixes.
    pub fn take(&mut self, entries: &BTreeMap<AnycastPrefix, Announcement>) {
        let of: BTreeMap<_, _> =
            entries.iter().map(|(prefix, entry)| (prefix.network(), entry.stance())).collect();
        if of == self.stances.of {
            return;
        }
        let revision = self.stances.revision + 1;
        self.leaving.retain(
            |prefix, _| matches!(of.get(&prefix.network()), Some(stance) if *stance != Stance::Announced),
        );
        for (prefix, entry) in entries {
            if entry.state.is_announced() && entry.stance() != Stance::Announced {
                self.leaving.entry(*prefix).or_insert(revision);
            }
        }
        self.dark.retain(|prefix, _| entries.contains_key(prefix));
        self.stances = Arc::new(Stances { revision, of });
    }

    /// The last of it.
    #[must_use]
    pub fn stances(&self) -> &Arc<Stances> {
        &self.stances
    }
}
