//! The judgement of each prefix under a new configuration and the present health.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::Present;
use crate::announce::decide::{Announcement, State, decide};
use crate::announce::drain::{Left, Step};
use crate::announce::facts::{Binding, DrainFact, Facts, HealthFact, Leaving, ServiceFact};
use crate::announce::lease::{DataPath, LeaseFact, Workers};
use crate::announce::ledger::Plan;
use crate::announce::reason::Reason;
use crate::bgp::origin::Route;
use crate::config::Config;
use crate::config::anycast::{Anycast, AnycastPrefix};
use crate::config::services::Service;
use crate::health::{Levels, Position, ServiceHealth};
use crate::observe::status::{PrefixStatus, ServiceStatus};

/// What becomes of one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outlook {
    /// The state, or `absent`.
    pub(super) now: String,
    pub(super) then: String,
    pub(super) why: String,
    /// What neighbors are told then; None: nothing.
    pub(super) told: Option<Route>,
}

impl Outlook {
    /// Whether it is announced now.
    pub(super) fn is_announced(&self) -> bool {
        !matches!(self.now.as_str(), ABSENT | WITHDRAWN)
    }

    /// Whether it is not announced then.
    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(self.then.as_str(), ABSENT | WITHDRAWN)
    }
}

const ABSENT: &str = "absent";
const WITHDRAWN: &str = "withdrawn";
const HELD: &str = "held";

/// Every prefix of either configuration.
pub(super) fn all(
    old: &Config,
    new: &Config,
    present: &Present<'_>,
    now: Instant,
) -> BTreeMap<AnycastPrefix, Outlook> {
    let prefixes: BTreeMap<_, _> = present.prefixes.iter().map(|it| (it.prefix.as_str(), it)).collect();
    let services: BTreeMap<_, _> = present.services.iter().map(|it| (it.service.as_str(), it)).collect();
    let fact = |name: &String| service_fact(name, old, new, services.get(name.as_str()).copied(), now);
    let facts: BTreeMap<_, _> = new.services.keys().map(|name| (name.as_str(), fact(name))).collect();
    let plan = Plan::of(new);
    let keys: BTreeSet<_> = old.anycast.keys().chain(new.anycast.keys()).collect();
    let outlook = |prefix: &AnycastPrefix| {
        let status = prefixes.get(prefix.to_string().as_str()).copied();
        let before = status.map_or(ABSENT, |status| status.state.as_str()).to_owned();
        match new.anycast.get(prefix) {
            Some(anycast) => one(anycast, &plan, before, status, &facts, now),
            None => Outlook {
                now: before,
                then: ABSENT.to_owned(),
                why: "it leaves the configuration".to_owned(),
                told: None,
            },
        }
    };
    keys.into_iter().map(|prefix| (*prefix, outlook(prefix))).collect()
}

/// Asks the decision.
fn one(
    anycast: &Anycast,
    plan: &Plan,
    before: String,
    status: Option<&PrefixStatus>,
    services: &BTreeMap<&str, ServiceFact>,
    now: Instant,
) -> Outlook {
    let facts = Facts {
        intent: anycast.state,
        leaving: Leaving::No,
        lease: lease(anycast, plan, status, now),
        drain: status.and_then(drain),
        binding: binding(anycast, status),
        health: match status {
            // Silence of the checks is not ended by a configuration.
            Some(status) if status.reason == "health-stale" => HealthFact::Unknown,
            _ => HealthFact::Known(
                anycast.services.iter().filter_map(|name| services.get(name.as_str()).cloned()).collect(),
            ),
        },
        // The others are not asked for a forecast.
        fleet: None,
    };
    let state = match before.as_str() {
        "announced" | "draining" => State::Announced,
        ABSENT | WITHDRAWN => State::Withdrawn,
        HELD => State::Held,
        _ => State::Degraded,
    };
    // What damping holds back now is still held back then; no configuration makes up for lost proof.
    let held = status.filter(|status| status.damping.as_ref().is_some_and(|it| it.left_ms.is_some()));
    let policy = Anycast { damping: None, ..anycast.clone() };
    let judged = decide(&policy, &facts, &Announcement::allowed(state, now), now);
    if let Some(held) = held.filter(|_| judged.state > state) {
        return Outlook { now: before.clone(), then: before, why: held.why.clone(), told: None };
    }
    // What the fleet needs now, it needs then.
    if before == HELD && !judged.state.is_announced() && judged.reason.failure().is_some() {
        let why = status.map(|status| status.why.clone()).unwrap_or_default();
        return Outlook { now: before.clone(), then: before, why, told: None };
    }
    let unproven =
        matches!(judged.reason, Reason::Starting(_) | Reason::Unserved { .. } | Reason::HealthUnknown);
    let (mut why, mut told) = (judged.reason.sentence(), None);
    if judged.state.is_announced() {
        told = Some((*judged.route).clone());
    } else if status.is_none() && unproven {
        // New and not proven yet, but nothing speaks against it.
        why = judged.reason.change();
        told = Some(Route { attributes: anycast.attributes.clone(), ..Route::default() });
    }
    Outlook { now: before, then: judged.state.name().to_owned(), why, told }
}

/// What the data path proves now it proves then, if it has a part in the prefix at all.
fn lease(anycast: &Anycast, plan: &Plan, status: Option<&PrefixStatus>, now: Instant) -> LeaseFact {
    // Whatever else is known: one that is needed is not proven before somebody has served.
    let unproven = DataPath { workers: Workers::Unproven { worker: 0 }, paths: Some(Arc::default()) };
    let fact = unproven.lease_of(anycast, plan, now);
    match status.and_then(|status| status.lease.as_ref()) {
        Some(lease) if fact != LeaseFact::NotNeeded => match lease.state.as_str() {
            "valid" => LeaseFact::Valid,
            "expired" => LeaseFact::Expired { what: lease.what.clone().unwrap_or_default() },
            _ => fact,
        },
        _ => fact,
    }
}

/// A drain goes on under a new configuration.
fn drain(status: &PrefixStatus) -> Option<DrainFact> {
    let drain = status.drain.as_ref()?;
    let step = if drain.step == Step::DePreferred.name() { Step::DePreferred } else { Step::Withdrawn };
    let cause = status.cause.unwrap_or_default();
    Some(DrainFact { step, left: Left::AtOnce, words: drain.words.clone(), waits: None, cause })
}

/// Addresses that are not there now are not there then; new ones are taken for bound.
fn binding(anycast: &Anycast, status: Option<&PrefixStatus>) -> Binding {
    let wanted: BTreeMap<String, _> = anycast.addresses.iter().map(|it| (it.to_string(), *it)).collect();
    let known = status.map(|status| status.addresses.as_slice()).unwrap_or_default();
    let missing = known.iter().filter(|it| it.state == "missing" && it.device == anycast.device);
    let mut missing = missing.filter_map(|it| Some((*wanted.get(&it.address)?, it.error.clone())));
    match missing.next() {
        Some((address, error)) => Binding::Missing { address, error: error.unwrap_or_default() },
        None => Binding::Bound,
    }
}

/// A service of the new configuration as the prober will see it at once: a backend whose question stays the
/// same keeps its verdict, any other begins unproven; without checks all are up.
fn service_fact(
    name: &str,
    old: &Config,
    new: &Config,
    status: Option<&ServiceStatus>,
    now: Instant,
) -> ServiceFact {
    let service = &new.services[name];
    let verdicts = verdicts(service, old.services.get(name), status);
    let total = service.backends.iter().map(|backend| backend.weight).sum();
    let up = service.backends.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Some(true));
    let healthy = up.map(|(backend, _)| backend.weight).sum();
    let position = Levels::of(&service.watermark, total).position(healthy);
    let health = ServiceHealth {
        position,
        healthy_weight: healthy,
        total_weight: total,
        proven: verdicts.iter().all(Option::is_some) || position != Position::Low,
        serving: match position {
            Position::Low => false,
            Position::Between => status.is_some_and(|status| status.state != "down"),
            Position::BrownOut | Position::Full => true,
        },
        cause: None,
        since: now,
        changed_by: None,
    };
    ServiceFact { name: name.to_owned(), watermark: service.watermark, health }
}

/// Whether each backend is up; None: there is no verdict.
fn verdicts(service: &Service, old: Option<&Service>, status: Option<&ServiceStatus>) -> Vec<Option<bool>> {
    if service.check.is_off() {
        return vec![Some(true); service.backends.len()];
    }
    let (Some(old), Some(status)) = (old, status) else { return vec![None; service.backends.len()] };
    let before: BTreeMap<_, _> = old.backends.iter().map(|it| (it.id.as_str(), it)).collect();
    let known: BTreeMap<_, _> =
        status.backends.iter().map(|it| (it.id.as_str(), it.verdict.as_str())).collect();
    let verdict = |backend: &crate::config::services::Backend| {
        let same = old.check.asks_the_same(before.get(backend.id.as_str())?, &service.check, backend);
        let verdict = *known.get(backend.id.as_str()).filter(|_| same)?;
        (verdict != "unproven").then_some(verdict == "up")
    };
    service.backends.iter().map(verdict).collect()
}
