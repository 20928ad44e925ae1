//! What must hold after every look: the model agrees, and so do the sentences of the design.

use std::sync::Arc;
use std::time::Instant;

use edgeproxy::announce::decide::{Announcement, State};
use edgeproxy::announce::drain::Step;
use edgeproxy::announce::lease::Workers;
use edgeproxy::announce::ledger::{Inputs, Ledger, Verdict};
use edgeproxy::bgp::origin::{OriginSet, Preference, Route};
use edgeproxy::config::anycast::{Anycast, AnycastPrefix, Damping, Intent};
use edgeproxy::config::bgp::{Attributes, Community};
use edgeproxy::health::Position;

use super::event::{Event, Found};
use super::model::{History, Model, Served, served};
use super::setting::SERVICES;

/// Names that operators and their scripts know.
pub const REASONS: [&str; 14] = [
    "operator-down",
    "stopping",
    "address-missing",
    "lease-expired",
    "health-unknown",
    "health-stale",
    "below-watermark",
    "starting",
    "between-watermarks",
    "brown-out",
    "healthy",
    "draining",
    "drained",
    "damped",
];
/// Those that take something away because of what was found out, and not because of what was ordered.
const FACTS: [&str; 5] = ["address-missing", "lease-expired", "health-stale", "below-watermark", "brown-out"];

macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}

/// What was there after a look.
#[derive(Debug)]
pub struct Seen {
    /// In the order of the prefixes.
    prefixes: Vec<(AnycastPrefix, Told)>,
    wanted: Arc<OriginSet>,
    /// Per service: its position, and whether it is proven.
    positions: [Option<(Position, bool)>; 3],
    /// Before this, time alone changes nothing.
    promised: Option<Instant>,
    falls: Vec<(AnycastPrefix, Fall)>,
}

/// One prefix after a look.
#[derive(Debug, PartialEq)]
struct Told {
    state: State,
    reason: &'static str,
    route: Arc<Route>,
    step: Option<Step>,
}

/// Something was taken away because of facts.
#[derive(Debug, Clone, Copy)]
struct Fall {
    to: State,
    /// It cannot be given back before, while this is the policy.
    until: Instant,
    damping: Damping,
}

impl Seen {
    pub fn of(ledger: &Ledger) -> Self {
        let told = ledger.entries().map(|(prefix, entry)| {
            let step = ledger.ladder(prefix).map(|ladder| ladder.step());
            let told =
                Told { state: entry.state, reason: entry.reason.name(), route: entry.route.clone(), step };
            (*prefix, told)
        });
        Self {
            prefixes: told.collect(),
            wanted: ledger.wanted().clone(),
            positions: [None; 3],
            promised: None,
            falls: Vec::new(),
        }
    }

    pub fn revision(&self) -> u64 {
        self.wanted.revision()
    }

    pub fn promise(&mut self, deadline: Option<Instant>) {
        self.promised = deadline;
    }

    pub fn promised(&self) -> Option<Instant> {
        self.promised
    }

    /// Takes over what later looks are measured by.
    pub fn remember(&mut self, before: &Self, inputs: &Inputs<'_>, now: Instant) {
        self.positions = positions(inputs);
        for (prefix, told) in &self.prefixes {
            let damping = inputs.plan.anycast.get(prefix).and_then(|anycast| anycast.damping);
            let Some(damping) = damping else { continue };
            let state_before = get(&before.prefixes, prefix).map_or(State::Withdrawn, |told| told.state);
            if told.state < state_before && FACTS.contains(&told.reason) {
                // A failure that is forgiven before the first dwell has passed holds nothing up.
                let until = now + damping.min_up.min(damping.decay);
                self.falls.push((*prefix, Fall { to: told.state, until, damping }));
            } else if let Some(fall) = get(&before.falls, prefix).filter(|fall| fall.damping == damping) {
                self.falls.push((*prefix, *fall));
            }
        }
    }
}

/// One look at everything.
pub struct Look<'a> {
    /// None: only time has passed.
    pub event: Option<&'a Event>,
    pub now: Instant,
    pub inputs: &'a Inputs<'a>,
    pub ledger: &'a Ledger,
    pub changed: &'a [Verdict],
}

impl Look<'_> {
    /// What is wrong, if anything is.
    pub fn check(&self, model: &Model, before: &Seen, seen: &Seen) -> Result<(), String> {
        let is_listed = self.inputs.plan.anycast.keys().eq(seen.prefixes.iter().map(|(prefix, _)| prefix));
        ensure!(is_listed, "judged are {:?}", seen.prefixes);
        let entries = self.ledger.entries().map(|(_, entry)| entry);
        for ((anycast, entry), (prefix, told)) in
            self.inputs.plan.anycast.values().zip(entries).zip(&seen.prefixes)
        {
            let history = model.of(prefix).expect("the model has looked at all that is configured");
            self.as_expected(anycast, history, entry, told).map_err(|wrong| format!("{prefix}: {wrong}"))?;
            let was = get(&before.prefixes, prefix);
            self.as_designed(anycast, was, told, before).map_err(|wrong| format!("{prefix}: {wrong}"))?;
        }
        self.wanted(before, seen)?;
        self.changes(before, seen)?;
        if self.event.is_none() && before.promised.is_none_or(|promised| self.now < promised) {
            let left = before.promised.map(|promised| promised - self.now);
            for (prefix, told) in &seen.prefixes {
                let was = get(&before.prefixes, prefix);
                ensure!(
                    was == Some(told),
                    "{prefix} was {was:?}, is {told:?}, {left:?} before the next deadline"
                );
            }
        }
        Ok(())
    }

    /// The same as the model says.
    fn as_expected(
        &self,
        anycast: &Anycast,
        history: &History,
        entry: &Announcement,
        told: &Told,
    ) -> Result<(), String> {
        let last = history.last();
        let (expected, actual) = ((last.state, last.reason), (told.state, told.reason));
        ensure!(actual == expected, "is {actual:?}, the model says {expected:?}");
        ensure!(
            entry.since == history.since(),
            "since {:?}, the model says {:?}",
            entry.since,
            history.since()
        );
        let (preference, added) = match told.state {
            State::Withdrawn => return self.drain_as_expected(anycast, history),
            State::Announced => (Preference::Normal, Attributes::default()),
            State::Degraded => (Preference::Degraded, anycast.degrade.clone()),
            State::Held => return Err("is held, and there is no fleet".to_owned()),
            State::Draining => {
                let mut added = anycast.drain.attributes.clone();
                added.communities.push(Community::GRACEFUL_SHUTDOWN);
                added.communities.sort_unstable();
                added.communities.dedup();
                (Preference::Draining, added)
            }
        };
        let route = &told.route;
        let is_right = route.preference == preference && route.added == added;
        ensure!(is_right && route.attributes == anycast.attributes, "is announced as {route:?}");
        self.drain_as_expected(anycast, history)
    }

    fn drain_as_expected(&self, anycast: &Anycast, history: &History) -> Result<(), String> {
        let ladder = self.ledger.ladder(&anycast.prefix);
        let Some((step, why)) = history.drain() else {
            ensure!(ladder.is_none(), "nobody drains it, but there is {ladder:?}");
            return Ok(());
        };
        let Some(ladder) = ladder else { return Err(format!("is not drained, the model says {step:?}")) };
        ensure!(ladder.step() == step, "is drained to {:?}, the model says {step:?}", ladder.step());
        let is_right = step == Step::DePreferred || why.contains(&ladder.left());
        ensure!(is_right, "was left for {:?}, the model says {why:?}", ladder.left());
        let watched = self.ledger.watched(self.inputs.plan);
        let watched = watched.iter().find(|watched| watched.prefix == anycast.prefix);
        let Some(watched) = watched else { return Err("drains, and its traffic is not watched".to_owned()) };
        let close = (step == Step::Closed).then_some(self.inputs.drains[&anycast.prefix].cause);
        ensure!(watched.close == close, "closes {:?} at {step:?}", watched.close);
        Ok(())
    }

    /// The properties that the design names, without any model.
    fn as_designed(
        &self,
        anycast: &Anycast,
        was: Option<&Told>,
        told: &Told,
        before: &Seen,
    ) -> Result<(), String> {
        if anycast.state == Intent::Down {
            ensure!(told.state == State::Withdrawn, "the operator says down, and it is {:?}", told.state);
        }
        if served(anycast, self.inputs, self.now) == Served::No {
            ensure!(told.state == State::Withdrawn, "its lease has expired, and it is {:?}", told.state);
        }
        if let Some(fall) = get(&before.falls, &anycast.prefix)
            && anycast.damping == Some(fall.damping)
        {
            let is_kept = told.state <= fall.to || self.now >= fall.until;
            ensure!(is_kept, "fell to {:?}, is {:?} before its dwell", fall.to, told.state);
        }
        let is_proof = matches!(
            self.event,
            Some(Event::Workers(Workers::Valid) | Event::Path { found: Found::Serving, .. })
        );
        if let Some(was) = was.filter(|was| is_proof && was.state.is_announced()) {
            ensure!(told.state.is_announced(), "was {:?}, and proof of service withdrew it", was.state);
        }
        let (Some(was), Some(Event::Service { service, .. })) = (was, self.event) else { return Ok(()) };
        let service = usize::from(*service) % self.inputs.plan.watermarks.len();
        let (Some((from, _)), Some((to, is_proven))) =
            (before.positions[service], positions(self.inputs)[service])
        else {
            return Ok(());
        };
        if to == Position::Between {
            ensure!(
                was.state == told.state,
                "was {:?}, is {:?} between the watermarks",
                was.state,
                told.state
            );
        }
        if to > from || (to == from && !is_proven) {
            let is_kept = told.state.is_announced() || !was.state.is_announced();
            ensure!(is_kept, "a rise from {from:?} to {to:?} withdrew it");
        }
        Ok(())
    }

    /// The wanted set holds exactly what is announced, and is new only if it says something new.
    fn wanted(&self, before: &Seen, seen: &Seen) -> Result<(), String> {
        let announced = seen.prefixes.iter().filter(|(_, told)| told.state.is_announced());
        let announced = announced.map(|(prefix, told)| (*prefix, &told.route));
        ensure!(seen.wanted.routes().eq(announced), "wanted is {:?}", seen.wanted);
        let is_other = !seen.wanted.routes().eq(before.wanted.routes());
        let (old, new) = (before.wanted.revision(), seen.wanted.revision());
        ensure!(new == old + u64::from(is_other), "revision {old}, then {new}; other routes: {is_other}");
        if !is_other {
            return Ok(());
        }
        for (prefix, _) in seen.prefixes.iter().chain(&before.prefixes) {
            let is_moved = seen.wanted.get(prefix) != before.wanted.get(prefix);
            let cause = seen.wanted.cause_of(prefix);
            ensure!(!is_moved || cause.is_some(), "{prefix} moved without a cause");
            let mut copy = (*seen.wanted).clone();
            let is_allowed = copy.insert(*prefix, Arc::default()).is_ok();
            let is_listed = self.inputs.plan.anycast.contains_key(prefix);
            ensure!(is_allowed == is_listed, "{prefix} may be announced: {is_allowed}");
            let is_told_why = is_listed || !is_moved || cause != before.wanted.cause_of(prefix);
            ensure!(is_told_why, "{prefix} left the configuration, and that is not the cause");
        }
        Ok(())
    }

    /// Every change is reported, with words.
    fn changes(&self, before: &Seen, seen: &Seen) -> Result<(), String> {
        for (prefix, told) in &seen.prefixes {
            let fresh =
                Told { state: State::Withdrawn, reason: "health-unknown", route: Arc::default(), step: None };
            let was = get(&before.prefixes, prefix).unwrap_or(&fresh);
            let is_new = (was.state, was.reason, &was.route) != (told.state, told.reason, &told.route);
            let verdict = self.changed.iter().find(|verdict| verdict.prefix == *prefix);
            let is_told = verdict.is_some_and(|verdict| verdict.news);
            ensure!(is_told == is_new, "{prefix} was {was:?}, is {told:?}, and is told: {is_told}");
            let Some(verdict) = verdict else { continue };
            ensure!(verdict.before == was.state, "{prefix} was {was:?}, told as {:?}", verdict.before);
            let turned = was.state != told.state;
            ensure!(
                verdict.turned() == turned,
                "{prefix} was {was:?}, is {told:?}, turned: {}",
                verdict.turned()
            );
            let order = self.inputs.drains.get(prefix).filter(|_| told.reason.starts_with("drain"));
            let is_named = order.is_none_or(|order| verdict.cause == order.cause);
            ensure!(is_named || !turned, "{prefix} {} because of {}", told.reason, verdict.cause);
            if is_told {
                let reason = &verdict.announcement.reason;
                ensure!(REASONS.contains(&reason.name()), "a new name: {}", reason.name());
                ensure!(
                    !reason.sentence().is_empty() && !reason.change().is_empty(),
                    "{reason:?} has no words"
                );
            }
        }
        Ok(())
    }
}

fn get<'a, T>(of: &'a [(AnycastPrefix, T)], prefix: &AnycastPrefix) -> Option<&'a T> {
    of.iter().find(|(other, _)| other == prefix).map(|(_, what)| what)
}

fn positions(inputs: &Inputs<'_>) -> [Option<(Position, bool)>; 3] {
    SERVICES.map(|name| inputs.view.services.get(name).map(|health| (health.position, health.proven)))
}
