//! The last judgement of every prefix, and the wanted set of routes that follows from all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decide::{Announcement, Policy, decide};
use super::facts::{self, Binding, Facts, Leaving};
use crate::bgp::origin::{AllowList, OriginSet};
use crate::config::Config;
use crate::config::anycast::{Anycast, AnycastPrefix};
use crate::config::services::Watermark;
use crate::health::HealthView;

/// What the configuration says about announcing.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub anycast: BTreeMap<AnycastPrefix, Anycast>,
    pub watermarks: BTreeMap<String, Watermark>,
    /// Health facts older than this are not believed.
    pub max_age: Duration,
    /// How long a planned stop announces with GRACEFUL_SHUTDOWN.
    pub graceful: Duration,
}

impl Plan {
    /// The part of a configuration that the decision needs.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            anycast: config.anycast.clone(),
            watermarks: config.services.iter().map(|(name, s)| (name.clone(), s.watermark)).collect(),
            max_age: config.health.max_age,
            graceful: config.bgp.shutdown.graceful,
        }
    }
}

/// A judgement that differs from the one before.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub prefix: AnycastPrefix,
    pub announcement: Announcement,
    /// Whether the state changed, and not only the words or the attributes.
    pub turned: bool,
}

/// The last judgements.
#[derive(Debug)]
pub struct Ledger {
    entries: BTreeMap<AnycastPrefix, Announcement>,
    wanted: Arc<OriginSet>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), wanted: Arc::new(OriginSet::new(0, Arc::default())) }
    }
}

impl Ledger {
    /// Judges every prefix of the plan anew. Returns what changed; [`wanted`](Self::wanted) is the
    /// set that follows, with a higher revision only if its routes changed.
    pub fn judge(
        &mut self,
        plan: &Plan,
        view: &HealthView,
        bindings: &BTreeMap<AnycastPrefix, Binding>,
        leaving: Leaving,
        now: Instant,
    ) -> Vec<Verdict> {
        let mut changed = Vec::new();
        let mut entries = BTreeMap::new();
        for (prefix, anycast) in &plan.anycast {
            let last = self.entries.remove(prefix).unwrap_or_else(|| Announcement::initial(now));
            let facts = Facts {
                intent: anycast.state,
                leaving,
                // Not tried yet is not bound.
                binding: bindings.get(prefix).cloned().unwrap_or_else(|| unbound(anycast)),
                health: facts::health_of(anycast, &plan.watermarks, view, plan.max_age, now),
            };
            let policy = Policy { attributes: anycast.attributes.clone(), degrade: anycast.degrade.clone() };
            let announcement = decide(&policy, &facts, &last, now);
            let turned = announcement.state != last.state;
            if turned || announcement.reason != last.reason || announcement.attributes != last.attributes {
                changed.push(Verdict { prefix: *prefix, announcement: announcement.clone(), turned });
            }
            entries.insert(*prefix, announcement);
        }
        self.entries = entries;
        self.want(plan, &changed);
        changed
    }

    fn want(&mut self, plan: &Plan, changed: &[Verdict]) {
        let allow = Arc::new(AllowList::new(plan.anycast.keys().copied()));
        let mut wanted = OriginSet::new(self.wanted.revision() + 1, allow);
        for (prefix, entry) in &self.entries {
            if entry.state.is_announced() {
                wanted
                    .insert(*prefix, entry.attributes.clone())
                    .expect("entries are made from the plan that the allow-list is made from");
            }
        }
        if wanted.same_routes(&self.wanted) {
            return;
        }
        let failures =
            changed.iter().filter(|verdict| verdict.turned && !verdict.announcement.state.is_announced());
        let known =
            failures.filter_map(|verdict| verdict.announcement.reason.cause()).map(|cause| cause.failed_at);
        wanted.set_cause(known.max());
        self.wanted = Arc::new(wanted);
    }

    /// The set of routes that neighbors shall have.
    #[must_use]
    pub fn wanted(&self) -> &Arc<OriginSet> {
        &self.wanted
    }

    /// The judgement of every prefix.
    pub fn entries(&self) -> impl Iterator<Item = (&AnycastPrefix, &Announcement)> {
        self.entries.iter()
    }
}

fn unbound(anycast: &Anycast) -> Binding {
    match anycast.addresses.first() {
        Some(address) => Binding::Missing { address: *address, error: "not tried yet".to_owned() },
        None => Binding::Bound,
    }
}
