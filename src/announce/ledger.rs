//! The last judgement of every prefix, and the wanted set of routes that follows from all of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::addresses::Bound;
use super::decide::{Announcement, State, decide};
use super::drain::{Ladder, Measured, Order, Step};
use super::facts::{self, DrainFact, Facts, Leaving};
use super::fleet::told::Told;
use super::fleet::{FleetFact, Outlook, Want};
use super::lease::{DataPath, Listens, listens_of};
use crate::bgp::origin::{AllowList, OriginSet};
use crate::catalog::stance::{Heard, Stances};
use crate::config::Config;
use crate::config::anycast::{Anycast, AnycastPrefix};
use crate::config::proxy::Lease;
use crate::config::services::Watermark;
use crate::health::HealthView;
use crate::observe::journal::{CauseId, CauseIds};

/// What operators drain.
pub type Drains = BTreeMap<AnycastPrefix, Order>;

/// What the configuration says about announcing.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub anycast: BTreeMap<AnycastPrefix, Anycast>,
    pub watermarks: BTreeMap<String, Watermark>,
    /// Services that the proxy serves: their prefixes need the lease of the data path.
    pub listens: BTreeMap<String, Listens>,
    pub lease: Lease,
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
            listens: listens_of(config),
            lease: config.proxy.lease,
            max_age: config.health.max_age,
            graceful: config.bgp.shutdown.graceful,
        }
    }
}

/// Everything that a judgement of all prefixes is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub plan: &'a Plan,
    pub view: &'a HealthView,
    pub bound: &'a Bound,
    pub drains: &'a Drains,
    pub data_path: &'a DataPath,
    /// What is heard of the other POPs; None without a fleet.
    pub heard: Option<&'a Arc<Heard>>,
    pub leaving: Leaving,
    /// The operator's last command.
    pub command: Option<CauseId>,
}

/// A judgement that differs from the one before.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub prefix: AnycastPrefix,
    pub announcement: Announcement,
    /// The state before.
    pub before: State,
    /// What first made it so.
    pub cause: CauseId,
    /// Whether neighbors are told otherwise or another rule decided; else only numbers in the words differ.
    pub news: bool,
}

impl Verdict {
    /// Whether the state changed, and not only the words or the attributes.
    #[must_use]
    pub fn turned(&self) -> bool {
        self.announcement.state != self.before
    }
}

/// A prefix whose traffic is to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    pub prefix: AnycastPrefix,
    pub addresses: Vec<IpAddr>,
    /// Close what is open, once for each order.
    pub close: Option<CauseId>,
}

/// The last judgements.
#[derive(Debug)]
pub struct Ledger {
    entries: BTreeMap<AnycastPrefix, Announcement>,
    /// What last made each prefix as it is.
    causes: BTreeMap<AnycastPrefix, CauseId>,
    ladders: BTreeMap<AnycastPrefix, Ladder>,
    wanted: Arc<OriginSet>,
    told: Told,
    ids: CauseIds,
}

impl Ledger {
    /// Without any prefix. `ids` name what nobody else has a name for.
    #[must_use]
    pub fn new(ids: CauseIds) -> Self {
        Self {
            entries: BTreeMap::new(),
            causes: BTreeMap::new(),
            ladders: BTreeMap::new(),
            wanted: Arc::new(OriginSet::new(0, Arc::default())),
            told: Told::default(),
            ids,
        }
    }

    /// Judges every prefix of the plan anew. Returns what changed; [`wanted`](Self::wanted) is the
    /// set that follows, with a higher revision only if its routes changed.
    pub fn judge(&mut self, inputs: Inputs<'_>, now: Instant) -> Vec<Verdict> {
        let Inputs { plan, view, bound, drains, data_path, heard, leaving, command } = inputs;
        let mut fleet = self.fleet(plan, heard, now);
        self.climb(plan, drains, &fleet, now);
        let mut changed = Vec::new();
        let mut entries = BTreeMap::new();
        // One name for all that changes now and has none of its own.
        let mut nameless = None;
        for (prefix, anycast) in &plan.anycast {
            let last = self.entries.remove(prefix).unwrap_or_else(|| Announcement::initial(now));
            let facts = Facts {
                intent: anycast.state,
                leaving,
                lease: data_path.lease_of(anycast, plan, now),
                drain: self.ladders.get(prefix).map(DrainFact::of),
                binding: facts::binding_of(anycast, bound),
                health: facts::health_of(anycast, &plan.watermarks, view, plan.max_age, now),
                fleet: fleet.remove(prefix),
            };
            let announcement = decide(anycast, &facts, &last, now);
            let turned = announcement.state != last.state;
            let told_otherwise = turned || announcement.route != last.route;
            if told_otherwise || announcement.reason != last.reason {
                // The same reason as before cannot have changed the attributes: a new configuration did.
                let is_new = turned || announcement.reason != last.reason;
                let own = announcement.cause.filter(|_| is_new);
                let commanded = !is_new || announcement.reason.is_operators() || last.reason.is_operators();
                let cause = own
                    .or_else(|| command.filter(|_| commanded))
                    .unwrap_or_else(|| *nameless.get_or_insert_with(|| self.ids.next_id()));
                if told_otherwise {
                    self.causes.insert(*prefix, cause);
                }
                changed.push(Verdict {
                    prefix: *prefix,
                    announcement: announcement.clone(),
                    before: last.state,
                    cause,
                    news: told_otherwise || announcement.reason.name() != last.reason.name(),
                });
            }
            entries.insert(*prefix, announcement);
        }
        // Those that left the configuration are withdrawn for that.
        for prefix in self.entries.keys() {
            let cause = command.unwrap_or_else(|| *nameless.get_or_insert_with(|| self.ids.next_id()));
            self.causes.insert(*prefix, cause);
        }
        self.told.take(&entries);
        self.entries = entries;
        self.want(plan, &changed);
        changed
    }

    /// Takes what was measured; [`judge`](Self::judge) follows.
    pub fn handle_flows(&mut self, measured: &Measured) {
        for (prefix, ladder) in &mut self.ladders {
            if let Some(flows) = measured.get(prefix) {
                ladder.handle_flows(*flows);
            }
        }
    }

    /// When time alone changes something.
    #[must_use]
    pub fn next_deadline(&self, plan: &Plan) -> Option<Instant> {
        let ladders = self.ladders.iter();
        let drained = ladders.filter_map(|(p, ladder)| ladder.next_deadline(&plan.anycast.get(p)?.drain));
        self.entries.values().filter_map(|entry| entry.next).chain(drained).min()
    }

    /// The prefixes that drain.
    #[must_use]
    pub fn watched(&self, plan: &Plan) -> Vec<Watched> {
        let watched = self.ladders.iter().filter_map(|(prefix, ladder)| {
            let addresses = plan.anycast.get(prefix)?.addresses.clone();
            let close = (ladder.step() == Step::Closed).then_some(ladder.order().cause);
            Some(Watched { prefix: *prefix, addresses, close })
        });
        watched.collect()
    }

    /// The drain of a prefix.
    #[must_use]
    pub fn ladder(&self, prefix: &AnycastPrefix) -> Option<&Ladder> {
        self.ladders.get(prefix)
    }

    /// What last made a prefix as it is.
    #[must_use]
    pub fn cause_of(&self, prefix: &AnycastPrefix) -> Option<CauseId> {
        self.causes.get(prefix).copied()
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

    /// What the other POPs are told.
    #[must_use]
    pub fn stances(&self) -> &Arc<Stances> {
        self.told.stances()
    }

    /// What is known of the others, for every prefix.
    fn fleet(
        &mut self,
        plan: &Plan,
        heard: Option<&Arc<Heard>>,
        now: Instant,
    ) -> BTreeMap<AnycastPrefix, FleetFact> {
        let Some(heard) = heard else { return BTreeMap::new() };
        let unknown = Announcement::initial(now);
        let fact = |(prefix, anycast): (&AnycastPrefix, &Anycast)| {
            let last = self.entries.get(prefix).unwrap_or(&unknown);
            (*prefix, self.told.fact(anycast, heard, last, now))
        };
        plan.anycast.iter().map(fact).collect()
    }

    /// Brings the ladders to the orders, and each as far down as it may go.
    fn climb(
        &mut self,
        plan: &Plan,
        drains: &Drains,
        fleet: &BTreeMap<AnycastPrefix, FleetFact>,
        now: Instant,
    ) {
        self.ladders.retain(|prefix, _| drains.contains_key(prefix));
        for (prefix, order) in drains {
            let Some(anycast) = plan.anycast.get(prefix) else {
                self.ladders.remove(prefix);
                continue;
            };
            let announced = self.entries.get(prefix).is_some_and(|entry| entry.state.is_announced());
            let ladder =
                self.ladders.entry(*prefix).or_insert_with(|| Ladder::new(order.clone(), announced, now));
            ladder.handle_order(order);
            let leave =
                || fleet.get(prefix).map_or(Outlook::Spared, |fleet| fleet.may_leave(Want::Drain, now));
            ladder.handle_timeout(&anycast.drain, leave, now);
        }
    }

    fn want(&mut self, plan: &Plan, changed: &[Verdict]) {
        let allow = Arc::new(AllowList::new(plan.anycast.keys().copied()));
        let mut wanted = OriginSet::new(self.wanted.revision() + 1, allow);
        for (prefix, entry) in &self.entries {
            if entry.state.is_announced() {
                wanted
                    .insert(*prefix, entry.route.clone())
                    .expect("entries are made from the plan that the allow-list is made from");
            }
        }
        if wanted.same_routes(&self.wanted) {
            return;
        }
        for (prefix, cause) in &self.causes {
            wanted.set_cause_of(*prefix, *cause);
        }
        // Those that are gone have been in a published set once: enough to name their withdrawal.
        self.causes.retain(|prefix, _| plan.anycast.contains_key(prefix));
        let failures =
            changed.iter().filter(|verdict| verdict.turned() && !verdict.announcement.state.is_announced());
        let known =
            failures.filter_map(|verdict| verdict.announcement.reason.cause()).map(|cause| cause.failed_at);
        wanted.set_cause(known.max());
        self.wanted = Arc::new(wanted);
    }
}
