//! The judgement of one prefix: pure, total, rules in their order of precedence.

use std::sync::Arc;
use std::time::Instant;

use super::facts::{Binding, Facts, HealthFact, Leaving, ServiceFact};
use super::reason::{Reason, ServiceLevel};
use crate::config::anycast::Intent;
use crate::config::bgp::{Attributes, Community};
use crate::health::Position;

/// What a prefix is told to the world as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Announced,
    /// Announced, but de-preferred.
    Degraded,
    Withdrawn,
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
            Self::Announced => "announced",
            Self::Degraded => "degraded",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What the configuration says about announcing one prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    pub attributes: Attributes,
    /// Added on a brown-out.
    pub degrade: Attributes,
}

/// The judgement: what, with which attributes, why, since when.
#[derive(Debug, Clone)]
pub struct Announcement {
    pub state: State,
    pub attributes: Arc<Attributes>,
    pub reason: Reason,
    /// When `state` became what it is.
    pub since: Instant,
}

impl Announcement {
    /// The judgement before any fact: nothing is announced.
    #[must_use]
    pub fn initial(now: Instant) -> Self {
        Self {
            state: State::Withdrawn,
            attributes: Arc::default(),
            reason: Reason::HealthUnknown,
            since: now,
        }
    }
}

/// Judges one prefix. The rules are those of a one-POP fleet: nobody else announces the prefix, so
/// what a fleet would hold is withdrawn here.
#[must_use]
pub fn decide(policy: &Policy, facts: &Facts, last: &Announcement, now: Instant) -> Announcement {
    let (state, reason) = judge(facts, last.state);
    let mut attributes = match state {
        State::Announced => policy.attributes.clone(),
        State::Degraded => joined(&policy.attributes, &policy.degrade),
        State::Withdrawn => Attributes::default(),
    };
    let reason = if facts.leaving == Leaving::Graceful && state.is_announced() {
        attributes.communities = merged(&attributes.communities, &[Community::GRACEFUL_SHUTDOWN]);
        Reason::Stopping
    } else {
        reason
    };
    // What did not change stays the very same value, so that nobody compares it deeply.
    let attributes =
        if *last.attributes == attributes { last.attributes.clone() } else { Arc::new(attributes) };
    let since = if state == last.state { last.since } else { now };
    Announcement { state, attributes, reason, since }
}

/// The rules of the decision, first match wins.
fn judge(facts: &Facts, before: State) -> (State, Reason) {
    // Rule 1: the operator's word comes before every check.
    if facts.intent == Intent::Down {
        return (State::Withdrawn, Reason::OperatorDown);
    }
    if facts.leaving == Leaving::Gone {
        return (State::Withdrawn, Reason::Stopping);
    }
    // Invariant 1 (no blackhole): an address that is not there cannot be served.
    if let Binding::Missing { address, error } = &facts.binding {
        let (address, error) = (*address, error.clone());
        return (State::Withdrawn, Reason::AddressMissing { address, error });
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
    if let Some(down) = services.iter().find(|s| s.health.position == Position::Low && s.health.proven) {
        return (State::Withdrawn, Reason::BelowWatermark(level(down)));
    }
    // Rule 6: not proven since the start. A reload that gives an announced prefix a new service has
    // failed nothing yet either: as before, until its first verdict.
    if let Some(unproven) = at(Position::Low) {
        return (before, Reason::Starting(level(unproven)));
    }
    // Rule 7: hysteresis. What was announced stays so, what was withdrawn too.
    if let Some(between) = at(Position::Between) {
        let level = level(between);
        return (before, Reason::BetweenWatermarks { level, announced: before.is_announced() });
    }
    // Rule 8.
    if let Some(dim) = at(Position::BrownOut) {
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

fn joined(base: &Attributes, more: &Attributes) -> Attributes {
    Attributes {
        prepend: base.prepend.saturating_add(more.prepend),
        med: more.med.or(base.med),
        communities: merged(&base.communities, &more.communities),
        large_communities: merged(&base.large_communities, &more.large_communities),
    }
}

fn merged<T: Ord + Copy>(a: &[T], b: &[T]) -> Vec<T> {
    let mut all: Vec<T> = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests;
