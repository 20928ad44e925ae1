//! The rules as a table.

mod properties;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::announce::drain::Left;
use crate::announce::facts::{DrainFact, health_of};
use crate::announce::lease::LeaseFact;
use crate::config::anycast::{AnycastPrefix, Damping, Drain};
use crate::config::services::{Level, Watermark};
use crate::health::{Cause, HealthView, ServiceHealth};
use crate::observe::journal::CauseIds;

fn service(name: &str, position: Position, proven: bool) -> ServiceFact {
    let healthy = match position {
        Position::Low => 0,
        Position::Between => 3,
        Position::BrownOut => 4,
        Position::Full => 10,
    };
    let now = Instant::now();
    ServiceFact {
        name: name.to_owned(),
        watermark: Watermark {
            low: Level::Weight(2),
            high: Level::Weight(4),
            degrade: Some(Level::Percent(50)),
        },
        health: ServiceHealth {
            position,
            healthy_weight: healthy,
            total_weight: 10,
            proven,
            serving: position > Position::Between,
            cause: (position != Position::Full).then(|| Cause {
                service: name.to_owned(),
                backend: "b-1".to_owned(),
                target: "10.0.0.5:80".parse().unwrap(),
                error: "connection refused".to_owned(),
                failed_at: now,
                proven: true,
            }),
            since: now,
            changed_by: Some(cause()),
        },
    }
}

fn cause() -> CauseId {
    CauseIds::new(1, 0).next_id()
}

fn facts(services: Vec<ServiceFact>) -> Facts {
    Facts {
        intent: Intent::Up,
        leaving: Leaving::No,
        lease: LeaseFact::NotNeeded,
        drain: None,
        binding: Binding::Bound,
        health: HealthFact::Known(services),
        fleet: None,
    }
}

fn policy() -> Anycast {
    Anycast {
        prefix: AnycastPrefix::new("198.51.100.0/24".parse().unwrap()).unwrap(),
        addresses: vec!["198.51.100.1".parse().unwrap()],
        device: "lo".to_owned(),
        services: vec!["web".to_owned()],
        state: Intent::Up,
        attributes: Attributes { med: Some(10), ..Attributes::default() },
        degrade: Attributes { prepend: 3, communities: vec![Community(7)], ..Attributes::default() },
        drain: Drain {
            attributes: Attributes { med: Some(900), ..Attributes::default() },
            ..Drain::default()
        },
        min_announcers: 1,
        damping: None,
    }
}

fn damped() -> Anycast {
    Anycast { damping: Some(Damping::default()), ..policy() }
}

fn last(state: State) -> Announcement {
    Announcement::allowed(state, Instant::now())
}

fn draining(facts: Facts, step: Step) -> Facts {
    let drain = DrainFact { step, left: Left::Quiet, words: "fan".to_owned(), waits: None, cause: cause() };
    Facts { drain: Some(drain), ..facts }
}

#[test]
fn every_rule_in_its_order() {
    use Position::{Between, BrownOut, Full, Low};
    use State::{Announced, Degraded, Draining, Withdrawn};
    let proven = |position| facts(vec![service("web", position, true)]);
    let fresh = |position| facts(vec![service("web", position, false)]);
    let down = |mut facts: Facts| {
        facts.intent = Intent::Down;
        facts
    };
    let gone = |mut facts: Facts| {
        facts.leaving = Leaving::Gone;
        facts
    };
    let unbound = |mut facts: Facts| {
        facts.binding =
            Binding::Missing { address: "198.51.100.1".parse().unwrap(), error: "no such device".to_owned() };
        facts
    };
    let untried = |mut facts: Facts| {
        facts.binding = Binding::Untried { address: "198.51.100.1".parse().unwrap() };
        facts
    };
    let health = |health| Facts { health, ..proven(Full) };
    let stale = || HealthFact::Stale { age: Duration::from_secs(9), max_age: Duration::from_secs(3) };
    let serving = |mut facts: Facts, degrade: bool| {
        if let HealthFact::Known(services) = &mut facts.health {
            for service in services {
                service.health.serving = true;
                service.watermark.degrade = degrade.then_some(Level::Percent(50));
            }
        }
        facts
    };
    let two = |a, b| facts(vec![service("web", a, true), service("dns", b, true)]);
    let drain = |facts, step| draining(facts, step);
    let graceful = |mut facts: Facts| {
        facts.leaving = Leaving::Graceful;
        facts
    };
    let expired = |facts: Facts| Facts { lease: LeaseFact::Expired { what: "worker 1".to_owned() }, ..facts };
    let unserved =
        |facts: Facts| Facts { lease: LeaseFact::Unproven { what: "worker 1".to_owned() }, ..facts };
    let valid = |facts: Facts| Facts { lease: LeaseFact::Valid, ..facts };
    let table = [
        ("lease", expired(proven(Full)), Announced, Withdrawn, "lease-expired"),
        ("operator over lease", down(expired(proven(Full))), Announced, Withdrawn, "operator-down"),
        ("stopping over lease", gone(expired(proven(Full))), Announced, Withdrawn, "stopping"),
        ("leaving keeps no lease", graceful(expired(proven(Full))), Announced, Withdrawn, "lease-expired"),
        (
            "lease over drain",
            expired(drain(proven(Full), Step::DePreferred)),
            Draining,
            Withdrawn,
            "lease-expired",
        ),
        (
            "lease over drained",
            expired(drain(proven(Full), Step::Closed)),
            Withdrawn,
            Withdrawn,
            "lease-expired",
        ),
        ("lease over silence", expired(health(stale())), Announced, Withdrawn, "lease-expired"),
        ("lease over no word", expired(health(HealthFact::Unknown)), Announced, Withdrawn, "lease-expired"),
        ("lease over low", expired(proven(Low)), Announced, Withdrawn, "lease-expired"),
        ("lease over a new address", expired(untried(proven(Full))), Announced, Withdrawn, "lease-expired"),
        ("the address is why", expired(unbound(proven(Full))), Announced, Withdrawn, "address-missing"),
        ("not served yet, at the start", unserved(proven(Full)), Withdrawn, Withdrawn, "starting"),
        ("not served yet, after a reload", unserved(proven(Full)), Announced, Announced, "starting"),
        ("not served yet, and dim", unserved(proven(BrownOut)), Announced, Announced, "starting"),
        ("not served yet, and low", unserved(proven(Low)), Announced, Withdrawn, "below-watermark"),
        ("not served yet, and silent", unserved(health(stale())), Announced, Withdrawn, "health-stale"),
        ("served", valid(proven(Full)), Withdrawn, Announced, "healthy"),
        ("served, low", valid(proven(Low)), Announced, Withdrawn, "below-watermark"),
        ("drain", drain(proven(Full), Step::DePreferred), Announced, Draining, "draining"),
        ("drain of a brown-out", drain(proven(BrownOut), Step::DePreferred), Degraded, Draining, "draining"),
        ("drained", drain(proven(Full), Step::Withdrawn), Draining, Withdrawn, "drained"),
        ("closed", drain(proven(Full), Step::Closed), Withdrawn, Withdrawn, "drained"),
        (
            "a drain keeps nothing up",
            drain(proven(Low), Step::DePreferred),
            Draining,
            Withdrawn,
            "below-watermark",
        ),
        (
            "operator over drain",
            down(drain(proven(Full), Step::Closed)),
            Draining,
            Withdrawn,
            "operator-down",
        ),
        ("leaving", graceful(proven(Full)), Announced, Draining, "stopping"),
        ("operator", down(proven(Full)), Announced, Withdrawn, "operator-down"),
        ("stopping", gone(proven(Full)), Announced, Withdrawn, "stopping"),
        ("operator over stopping", down(gone(proven(Full))), Announced, Withdrawn, "operator-down"),
        ("address", unbound(proven(Full)), Announced, Withdrawn, "address-missing"),
        ("a new address", untried(proven(Full)), Announced, Announced, "address-missing"),
        ("an address at the start", untried(proven(Full)), Withdrawn, Withdrawn, "address-missing"),
        ("no word", health(HealthFact::Unknown), Withdrawn, Withdrawn, "health-unknown"),
        (
            "a service too new for the checks",
            health(HealthFact::Unknown),
            Announced,
            Announced,
            "health-unknown",
        ),
        ("silence", health(stale()), Announced, Withdrawn, "health-stale"),
        ("low", proven(Low), Announced, Withdrawn, "below-watermark"),
        ("starting", fresh(Low), Withdrawn, Withdrawn, "starting"),
        ("a new service of an announced prefix", fresh(Low), Announced, Announced, "starting"),
        ("between, announced", proven(Between), Announced, Announced, "between-watermarks"),
        ("between, degraded", proven(Between), Degraded, Degraded, "between-watermarks"),
        ("between, withdrawn", proven(Between), Withdrawn, Withdrawn, "between-watermarks"),
        (
            "between, up, withdrawn",
            serving(proven(Between), false),
            Withdrawn,
            Announced,
            "between-watermarks",
        ),
        ("between, up, degraded", serving(proven(Between), false), Degraded, Announced, "between-watermarks"),
        (
            "between, up, announced",
            serving(proven(Between), true),
            Announced,
            Announced,
            "between-watermarks",
        ),
        ("between, up, dim", serving(proven(Between), true), Withdrawn, Degraded, "between-watermarks"),
        ("brown-out", proven(BrownOut), Announced, Degraded, "brown-out"),
        ("brown-out from below", proven(BrownOut), Withdrawn, Degraded, "brown-out"),
        ("healthy", proven(Full), Withdrawn, Announced, "healthy"),
        ("all services must be up", two(Full, Low), Announced, Withdrawn, "below-watermark"),
        ("one brown-out is enough", two(BrownOut, Full), Announced, Degraded, "brown-out"),
        ("down wins over brown-out", two(BrownOut, Low), Announced, Withdrawn, "below-watermark"),
    ];
    for (name, facts, before, expected, reason) in table {
        let announcement = decide(&policy(), &facts, &last(before), Instant::now());
        assert_eq!(announcement.state, expected, "{name}");
        assert_eq!(announcement.reason.name(), reason, "{name}");
    }
}

#[test]
fn no_verdict_is_behind_what_the_operator_takes_back() {
    let now = Instant::now();
    let full = facts(vec![service("web", Position::Full, true)]);
    let down = Facts { intent: Intent::Down, ..full.clone() };
    for facts in [down, draining(full.clone(), Step::DePreferred), draining(full.clone(), Step::Closed)] {
        let held = decide(&policy(), &facts, &last(State::Announced), now);
        let back = decide(&policy(), &full, &held, now);
        assert_eq!((back.state, back.cause), (State::Announced, None), "{}", held.reason.name());
    }
    // But one is behind a failure while it drains.
    let draining = |position| draining(facts(vec![service("web", position, true)]), Step::DePreferred);
    let held = decide(&policy(), &draining(Position::Full), &last(State::Announced), now);
    assert_eq!(decide(&policy(), &draining(Position::Low), &held, now).cause, Some(cause()));
}

#[test]
fn what_is_told_follows_the_state() {
    let now = Instant::now();
    let full = facts(vec![service("web", Position::Full, true)]);
    let announced = decide(&policy(), &full, &last(State::Withdrawn), now);
    let plain = Route { attributes: policy().attributes, ..Route::default() };
    assert_eq!(*announced.route, plain);
    assert_eq!(announced.cause, Some(cause()));

    let brown = facts(vec![service("web", Position::BrownOut, true)]);
    let degraded = decide(&policy(), &brown, &announced, now);
    assert_eq!(degraded.route.preference, Preference::Degraded);
    assert_eq!((&degraded.route.attributes, &degraded.route.added), (&plain.attributes, &policy().degrade));

    let leaving = Facts { leaving: Leaving::Graceful, ..full.clone() };
    for facts in [leaving, draining(full, Step::DePreferred)] {
        let told = decide(&policy(), &facts, &announced, now).route;
        assert_eq!((told.preference, told.added.med), (Preference::Draining, Some(900)));
        assert_eq!(told.added.communities, vec![Community::GRACEFUL_SHUTDOWN]);
    }

    let mut hidden = policy();
    hidden.drain.attributes.communities = vec![Community(7), Community::NO_EXPORT];
    let leaving = Facts { leaving: Leaving::Graceful, ..facts(vec![service("web", Position::Full, true)]) };
    let told = decide(&hidden, &leaving, &announced, now).route;
    let sorted = vec![Community(7), Community::GRACEFUL_SHUTDOWN, Community::NO_EXPORT];
    assert_eq!(told.added.communities, sorted);

    // A backend that dies while we leave still counts at once.
    let low = Facts { leaving: Leaving::Graceful, ..facts(vec![service("web", Position::Low, true)]) };
    assert_eq!(decide(&policy(), &low, &announced, now).state, State::Withdrawn);
}

#[test]
fn what_failed_comes_back_after_its_dwell_and_the_operators_word_is_not_damped() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let full = facts(vec![service("web", Position::Full, true)]);
    let low = facts(vec![service("web", Position::Low, true)]);
    let announced = decide(&damped(), &full, &last(State::Withdrawn), at(0));
    assert_eq!(announced.state, State::Announced, "the first announcement waits for nothing");
    let failed = decide(&damped(), &low, &announced, at(0));
    let waiting = decide(&damped(), &full, &failed, at(100));
    assert_eq!((waiting.state, waiting.reason.name()), (State::Withdrawn, "damped"));
    assert_eq!(waiting.next, Some(at(1100)));
    assert!(waiting.reason.sentence().contains("failed once lately"), "{}", waiting.reason.sentence());
    assert_eq!(decide(&damped(), &full, &waiting, at(1100)).state, State::Announced);

    let down = Facts { intent: Intent::Down, ..full.clone() };
    let off = decide(&damped(), &down, &announced, at(0));
    assert_eq!(decide(&damped(), &full, &off, at(1)).state, State::Announced);
    let drained = decide(&damped(), &draining(full.clone(), Step::Withdrawn), &announced, at(0));
    assert_eq!(drained.state, State::Withdrawn);
    assert_eq!(decide(&damped(), &full, &drained, at(1)).state, State::Announced);
}

#[test]
fn an_expired_lease_counts_as_a_failure_and_no_verdict_brings_it_back() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let served = Facts { lease: LeaseFact::Valid, ..facts(vec![service("web", Position::Full, true)]) };
    let expired = Facts { lease: LeaseFact::Expired { what: "worker 1".to_owned() }, ..served.clone() };
    let announced = decide(&damped(), &served, &last(State::Withdrawn), at(0));
    assert_eq!((announced.state, announced.cause), (State::Announced, Some(cause())));
    let withdrawn = decide(&damped(), &expired, &announced, at(0));
    assert_eq!((withdrawn.state, withdrawn.cause), (State::Withdrawn, None));
    let waiting = decide(&damped(), &served, &withdrawn, at(10));
    assert_eq!((waiting.state, waiting.reason.name()), (State::Withdrawn, "damped"));
    let back = decide(&damped(), &served, &waiting, at(1010));
    assert_eq!((back.state, back.cause), (State::Announced, None));
    // But where a check failed meanwhile, its verdict does.
    let low = Facts { health: facts(vec![service("web", Position::Low, true)]).health, ..served.clone() };
    let both = decide(&damped(), &low, &withdrawn, at(10));
    let back = decide(&damped(), &served, &decide(&damped(), &served, &both, at(20)), at(1020));
    assert_eq!((back.state, back.cause), (State::Announced, Some(cause())));
}

#[test]
fn what_is_not_known_of_one_service_does_not_hide_that_another_is_down() {
    let now = Instant::now();
    let anycast = Anycast { services: vec!["web".to_owned(), "dns".to_owned()], ..policy() };
    let table = [(true, "below-watermark", State::Withdrawn), (false, "health-unknown", State::Announced)];
    for (proven, reason, state) in table {
        let low = service("web", Position::Low, proven);
        let view = HealthView { as_of: now, services: [("web".to_owned(), low.health)].into() };
        let health = health_of(&anycast, &BTreeMap::new(), &view, Duration::from_secs(3), now);
        let after = decide(&anycast, &Facts { health, ..facts(Vec::new()) }, &last(State::Announced), now);
        assert_eq!((after.reason.name(), after.state), (reason, state));
    }
}

#[test]
fn the_sentence_names_the_check_and_its_error() {
    let low = facts(vec![service("web", Position::Low, true)]);
    let reason = decide(&policy(), &low, &last(State::Announced), Instant::now()).reason;
    let sentence = reason.sentence();
    for part in ["web", "0 of 10", "low watermark 2", "b-1", "10.0.0.5:80", "connection refused"] {
        assert!(sentence.contains(part), "{part} is not in: {sentence}");
    }
    assert!(reason.change().contains("4 weight"), "{}", reason.change());
}
