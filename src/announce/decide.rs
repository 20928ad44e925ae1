//! The judgement of one prefix: pure, total, rules in their order of precedence.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::damping::Damper;
use super::drain::Step;
use super::facts::{Binding, Facts, HealthFact, Leaving, ServiceFact};
use super::fleet::{Hold, Outlook, Want};
use super::lease::LeaseFact;
use super::reason::{Reason, ServiceLevel};
use crate::bgp::origin::{Preference, Route};
use crate::catalog::stance::{Failure, Stance};
use crate::config::anycast::{Anycast, Intent};
use crate::config::bgp::{Attributes, Community};
use crate::health::Position;
use crate::observe::journal::CauseId;

/// How often it is looked whether what is held may go.
const LOOK: Duration = Duration::from_millis(100);

/// What a prefix is told to the world as, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Withdrawn,
    /// Announced, but not served: the other POPs do not suffice. Neighbors are asked to look elsewhere.
    Held,
    /// Announced, but on its way to be withdrawn: neighbors are asked to look elsewhere.
    Draining,
    /// Announced, but de-preferred.
    Degraded,
    Announced,
}

impl State {
    /// Whether neighbors have the route.
    #[must_use]
    pub fn is_announced(self) -> bool {
        self != Self::Withdrawn
    }

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Held => "held",
            Self::Draining => "draining",
            Self::Degraded => "degraded",
            Self::Announced => "announced",
        }
    }
}

/// The judgement: what, told how, why, since when.
#[derive(Debug, Clone)]
pub struct Announcement {
    pub state: State,
    /// What neighbors are told; of no meaning while withdrawn.
    pub route: Arc<Route>,
    pub reason: Reason,
    /// When `state` became what it is.
    pub since: Instant,
    /// What first made it so, where the facts tell.
    pub cause: Option<CauseId>,
    /// When time alone may change it.
    pub next: Option<Instant>,
    /// What the checks alone allow, before damping and before the operator's words: what rule 7 keeps.
    judged: State,
    /// What it was withdrawn for last was the data path: no verdict of a check brings it back.
    lapsed: bool,
    /// What took it down after it was announced, until the rules let it up again.
    failure: Option<Failure>,
    damper: Damper,
}

impl Announcement {
    /// The judgement before any fact: nothing is announced.
    #[must_use]
    pub fn initial(now: Instant) -> Self {
        Self {
            state: State::Withdrawn,
            route: Arc::default(),
            reason: Reason::HealthUnknown,
            since: now,
            cause: None,
            next: None,
            judged: State::Withdrawn,
            lapsed: false,
            failure: None,
            damper: Damper::default(),
        }
    }

    /// As if the checks had allowed `state` so far, without a history of failures.
    #[must_use]
    pub fn allowed(state: State, now: Instant) -> Self {
        let mut damper = Damper::default();
        damper.take(None, state, false, now);
        Self { state, judged: state, damper, ..Self::initial(now) }
    }

    /// Its history of failures.
    #[must_use]
    pub fn damper(&self) -> &Damper {
        &self.damper
    }

    /// As the other POPs are told of it.
    #[must_use]
    pub fn stance(&self) -> Stance {
        match (self.state, &self.failure) {
            (State::Withdrawn, Some(failure)) if !self.reason.is_operators() => {
                Stance::Failed(failure.clone())
            }
            (State::Withdrawn, _) => Stance::Withdrawn,
            (_, Some(failure)) => Stance::Held(failure.clone()),
            (State::Draining, None) => Stance::Draining,
            (State::Held | State::Degraded | State::Announced, None) => Stance::Announced,
        }
    }
}

/// Judges one prefix. Without a fleet nobody else announces it, and what fails is withdrawn.
#[must_use]
pub fn decide(policy: &Anycast, facts: &Facts, last: &Announcement, now: Instant) -> Announcement {
    let (judged, reason) = judge(facts, last.judged);
    let lapsed = has_lapsed(&reason, last);
    let mut damper = last.damper;
    let dwell = damper.take(policy.damping.as_ref(), judged, last.state.is_announced(), now);
    let reason = match dwell {
        Some(dwell) => Reason::Damped { dwell, allowed: Box::new(reason) },
        None => reason,
    };
    let failure = failure(&reason, last, damper.level(), now);
    let (allowed, reason) = spare(facts, last, damper.level(), reason, failure.as_ref(), now);
    let (state, reason) = obey(facts, allowed, reason);
    let route = route(policy, state);
    Announcement {
        state,
        // What did not change stays the very same value, so that nobody compares it deeply.
        route: if *last.route == route { last.route.clone() } else { Arc::new(route) },
        cause: if is_lifted(facts, &last.reason) || lapsed && !reason.is_operators() {
            None
        } else {
            cause_of(facts, &reason)
        },
        reason,
        since: if state == last.state { last.since } else { now },
        // What the others say comes by itself; that they say nothing does not.
        next: dwell
            .map(|dwell| dwell.until)
            .into_iter()
            .chain((state == State::Held).then(|| now + LOOK))
            .min(),
        judged,
        lapsed,
        failure,
        damper,
    }
}

/// What took the prefix down: the failure of now, or the one that it has not come back from yet.
fn failure(reason: &Reason, last: &Announcement, level: State, now: Instant) -> Option<Failure> {
    if level.is_announced() {
        return None;
    }
    match reason.failure() {
        Some(_) if !last.state.is_announced() && last.failure.is_none() => None,
        Some(words) => {
            let failure = Failure::new(&words, now);
            Some(last.failure.clone().filter(|last| last.what == failure.what).unwrap_or(failure))
        }
        None => last.failure.clone(),
    }
}

/// Invariant 2 (no lights-out): what the checks took down stays announced where the fleet needs it.
fn spare(
    facts: &Facts,
    last: &Announcement,
    level: State,
    reason: Reason,
    failure: Option<&Failure>,
    now: Instant,
) -> (State, Reason) {
    let (Some(fleet), Some(failure)) = (&facts.fleet, failure) else { return (level, reason) };
    let held = |hold, of| (State::Held, Reason::Held { hold, of: Box::new(of) });
    if !last.state.is_announced() {
        return if fleet.must_return(now) { held(Hold::Dark, reason) } else { (level, reason) };
    }
    // Its checks are better again: nothing is withdrawn for that.
    if reason.failure().is_none() {
        return (State::Held, reason);
    }
    match fleet.may_leave(Want::Fail { failure, proven: reason.is_proven() }, now) {
        Outlook::Spared => (level, reason),
        Outlook::Needed(hold) => held(hold, reason),
    }
}

/// The operator's words, over what the checks allow.
fn obey(facts: &Facts, allowed: State, reason: Reason) -> (State, Reason) {
    // Rule 1: the operator's word comes before every check.
    if facts.intent == Intent::Down {
        return (State::Withdrawn, Reason::OperatorDown);
    }
    if facts.leaving == Leaving::Gone {
        return (State::Withdrawn, Reason::Stopping);
    }
    // Rule 2. It is withdrawn without this already; but no drain is the reason for it.
    if let Reason::LeaseExpired { .. } = reason {
        return (State::Withdrawn, reason);
    }
    // Rule 3.
    if let Some(drain) = facts.drain.as_ref().filter(|drain| drain.step != Step::DePreferred) {
        return (State::Withdrawn, Reason::Drained(drain.clone()));
    }
    // To be drained is no reason to announce what cannot be served, and held it is asked to be left already.
    if allowed <= State::Held {
        return (allowed, reason);
    }
    if facts.leaving == Leaving::Graceful {
        return (State::Draining, Reason::Stopping);
    }
    match &facts.drain {
        Some(drain) => (State::Draining, Reason::Draining(drain.clone())),
        None => (allowed, reason),
    }
}

/// Whether the operator has just taken such words back: no verdict is behind what follows.
fn is_lifted(facts: &Facts, before: &Reason) -> bool {
    let silent = facts.intent == Intent::Up && facts.leaving == Leaving::No && facts.drain.is_none();
    silent && before.is_operators()
}

/// Whether the data path is what it was withdrawn for last, until it is announced again or a check takes its part.
fn has_lapsed(reason: &Reason, last: &Announcement) -> bool {
    match reason {
        Reason::Held { of, .. } => has_lapsed(of, last),
        Reason::LeaseExpired { .. } => true,
        Reason::AddressMissing { .. } | Reason::HealthStale { .. } | Reason::BelowWatermark(_) => false,
        _ => last.lapsed && !last.state.is_announced(),
    }
}

fn route(policy: &Anycast, state: State) -> Route {
    let (preference, added) = match state {
        State::Withdrawn => return Route::default(),
        State::Announced => (Preference::Normal, Attributes::default()),
        State::Degraded => (Preference::Degraded, policy.degrade.clone()),
        State::Draining => (Preference::Draining, leaving(&policy.drain.attributes)),
        State::Held => (Preference::Draining, leaving(&policy.degrade)),
    };
    Route { preference, attributes: policy.attributes.clone(), added }
}

/// RFC 8326 §4.1.
fn leaving(attributes: &Attributes) -> Attributes {
    let mut added = attributes.clone();
    if let Err(place) = added.communities.binary_search(&Community::GRACEFUL_SHUTDOWN) {
        added.communities.insert(place, Community::GRACEFUL_SHUTDOWN);
    }
    added
}

fn cause_of(facts: &Facts, reason: &Reason) -> Option<CauseId> {
    let services = match &facts.health {
        HealthFact::Known(services) => services.as_slice(),
        HealthFact::Unknown | HealthFact::Stale { .. } => &[],
    };
    let of = |name: &str| services.iter().find(|s| s.name == name).and_then(|s| s.health.changed_by);
    match reason {
        Reason::OperatorDown
        | Reason::Stopping
        | Reason::AddressMissing { .. }
        | Reason::LeaseExpired { .. }
        | Reason::Unserved { .. }
        | Reason::HealthUnknown
        | Reason::HealthStale { .. } => None,
        Reason::Draining(drain) | Reason::Drained(drain) => Some(drain.cause),
        Reason::BelowWatermark(level)
        | Reason::Starting(level)
        | Reason::BetweenWatermarks { level, .. }
        | Reason::BrownOut(level) => of(&level.service),
        Reason::Damped { allowed: of, .. } | Reason::Held { of, .. } => cause_of(facts, of),
        // The service that came up last.
        Reason::Healthy { .. } => services.iter().filter_map(|s| s.health.changed_by).max(),
    }
}

/// What the data path and the checks allow: rule 2 and those from 4 on, first match wins.
fn judge(facts: &Facts, before: State) -> (State, Reason) {
    // Invariant 1 (no blackhole): an address that is not there cannot be served. Before rule 2, because it is why
    // nobody comes through there.
    if let Binding::Missing { address, error } = &facts.binding {
        let (address, error) = (*address, error.clone());
        return (State::Withdrawn, Reason::AddressMissing { address, error });
    }
    // Rule 2: it counts as a failure like any other, and damping keeps it from coming back too soon.
    if let LeaseFact::Expired { what } = &facts.lease {
        return (State::Withdrawn, Reason::LeaseExpired { what: what.clone() });
    }
    if let Binding::Untried { address } = &facts.binding {
        return (before, Reason::AddressMissing { address: *address, error: "not tried yet".to_owned() });
    }
    // Rule 4: silence is not health.
    let services = match &facts.health {
        // Only before the first word, or for a moment after a reload named a new service: then
        // nothing has failed, and what was announced stays.
        HealthFact::Unknown => return (before, Reason::HealthUnknown),
        HealthFact::Stale { age, max_age } => {
            return (State::Withdrawn, Reason::HealthStale { age: *age, max_age: *max_age });
        }
        HealthFact::Known(services) => services,
    };
    let at = |position: Position| services.iter().find(move |s| s.health.position == position);
    // Rule 5: one service that is proven down is enough.
    if let Some(down) = services.iter().find(|s| s.is_down()) {
        return (State::Withdrawn, Reason::BelowWatermark(level(down)));
    }
    // Rule 6: not proven since the start. A reload that gives an announced prefix a new service has
    // failed nothing yet either: as before, until its first verdict.
    if let Some(unproven) = at(Position::Low) {
        return (before, Reason::Starting(level(unproven)));
    }
    // The same of the data path: a reload that brings a listener has failed nothing.
    if let LeaseFact::Unproven { what } = &facts.lease {
        return (before, Reason::Unserved { what: what.clone() });
    }
    let is_dim = |s: &ServiceFact| match s.health.position {
        Position::BrownOut => true,
        // A degrade mark is never under the high one.
        Position::Between => s.watermark.degrade.is_some(),
        Position::Low | Position::Full => false,
    };
    let dim = services.iter().find(|s| is_dim(s));
    // Rule 7: as before. But a service that was up stays up until it is low: where all of them are, the prefix
    // is not kept down, nor worse than its marks ask for.
    if let Some(between) = at(Position::Between) {
        let undecided = services.iter().any(|s| s.health.position == Position::Between && !s.health.serving);
        let up = if dim.is_some() { State::Degraded } else { State::Announced };
        let state = if undecided { before } else { before.max(up) };
        let level = level(between);
        return (state, Reason::BetweenWatermarks { level, announced: state.is_announced() });
    }
    // Rule 8.
    if let Some(dim) = dim {
        return (State::Degraded, Reason::BrownOut(level(dim)));
    }
    // Rule 9.
    (State::Announced, Reason::Healthy { services: services.iter().map(|s| s.name.clone()).collect() })
}

fn level(fact: &ServiceFact) -> ServiceLevel {
    let total = fact.health.total_weight;
    ServiceLevel {
        service: fact.name.clone(),
        healthy: fact.health.healthy_weight,
        total,
        low: fact.watermark.low.of(total),
        high: fact.watermark.high.of(total),
        degrade: fact.watermark.degrade.map(|mark| mark.of(total)),
        cause: fact.health.cause.clone(),
    }
}

#[cfg(test)]
mod tests;
