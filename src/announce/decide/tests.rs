//! The rules as a table, and the properties that hold for every input.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::services::{Level, Watermark};
use crate::health::{Cause, ServiceHealth};

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
            cause: (position != Position::Full).then(|| Cause {
                service: name.to_owned(),
                backend: "b-1".to_owned(),
                target: "10.0.0.5:80".parse().unwrap(),
                error: "connection refused".to_owned(),
                failed_at: now,
                proven: true,
            }),
            since: now,
        },
    }
}

fn facts(services: Vec<ServiceFact>) -> Facts {
    Facts {
        intent: Intent::Up,
        leaving: Leaving::No,
        binding: Binding::Bound,
        health: HealthFact::Known(services),
    }
}

fn policy() -> Policy {
    Policy {
        attributes: Attributes { med: Some(10), ..Attributes::default() },
        degrade: Attributes { prepend: 3, communities: vec![Community(7)], ..Attributes::default() },
    }
}

fn last(state: State) -> Announcement {
    Announcement { state, ..Announcement::initial(Instant::now()) }
}

#[test]
fn every_rule_in_its_order() {
    use Position::{Between, BrownOut, Full, Low};
    use State::{Announced, Degraded, Withdrawn};
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
    let health = |health| Facts { health, ..proven(Full) };
    let stale = || HealthFact::Stale { age: Duration::from_secs(9), max_age: Duration::from_secs(3) };
    let two = |a, b| facts(vec![service("web", a, true), service("dns", b, true)]);
    let table = [
        ("operator", down(proven(Full)), Announced, Withdrawn, "operator-down"),
        ("stopping", gone(proven(Full)), Announced, Withdrawn, "stopping"),
        ("operator over stopping", down(gone(proven(Full))), Announced, Withdrawn, "operator-down"),
        ("address", unbound(proven(Full)), Announced, Withdrawn, "address-missing"),
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
fn attributes_follow_the_state() {
    let now = Instant::now();
    let full = facts(vec![service("web", Position::Full, true)]);
    let announced = decide(&policy(), &full, &last(State::Withdrawn), now);
    assert_eq!(*announced.attributes, policy().attributes);

    let brown = facts(vec![service("web", Position::BrownOut, true)]);
    let degraded = decide(&policy(), &brown, &announced, now);
    assert_eq!((degraded.attributes.prepend, degraded.attributes.med), (3, Some(10)));

    let leaving = Facts { leaving: Leaving::Graceful, ..full };
    let graceful = decide(&policy(), &leaving, &announced, now);
    assert_eq!(graceful.attributes.communities, vec![Community::GRACEFUL_SHUTDOWN]);
    assert_eq!(graceful.reason.name(), "stopping");

    // A backend that dies while we leave still counts at once.
    let low = Facts { leaving: Leaving::Graceful, ..facts(vec![service("web", Position::Low, true)]) };
    assert_eq!(decide(&policy(), &low, &graceful, now).state, State::Withdrawn);
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

fn any_position() -> impl Strategy<Value = Position> {
    prop_oneof![Just(Position::Low), Just(Position::Between), Just(Position::BrownOut), Just(Position::Full)]
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let health = prop_oneof![
        1 => Just(HealthFact::Unknown),
        1 => Just(HealthFact::Stale { age: Duration::from_secs(5), max_age: Duration::from_secs(3) }),
        6 => proptest::collection::vec((any_position(), any::<bool>()), 1..4).prop_map(|services| {
            HealthFact::Known(
                services.into_iter().enumerate().map(|(n, (p, proven))| service(&format!("s{n}"), p, proven)).collect(),
            )
        }),
    ];
    (any::<bool>(), 0..3u8, any::<bool>(), health).prop_map(|(down, leaving, bound, health)| Facts {
        intent: if down { Intent::Down } else { Intent::Up },
        leaving: [Leaving::No, Leaving::Graceful, Leaving::Gone][usize::from(leaving)],
        binding: if bound {
            Binding::Bound
        } else {
            Binding::Missing { address: "198.51.100.1".parse().unwrap(), error: "gone".to_owned() }
        },
        health,
    })
}

fn any_state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Announced), Just(State::Degraded), Just(State::Withdrawn)]
}

fn rank(position: Position) -> u8 {
    match position {
        Position::Low => 0,
        Position::Between => 1,
        Position::BrownOut => 2,
        Position::Full => 3,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_same_input_has_the_same_answer_and_every_reason_a_text(facts in any_facts(), before in any_state()) {
        let (now, before) = (Instant::now(), last(before));
        let one = decide(&policy(), &facts, &before, now);
        let two = decide(&policy(), &facts, &before, now);
        prop_assert_eq!((one.state, &one.attributes, &one.reason), (two.state, &two.attributes, &two.reason));
        prop_assert!(!one.reason.sentence().is_empty() && !one.reason.change().is_empty());
        // Asked again with its own answer, it stays: no oscillation without news.
        prop_assert_eq!(decide(&policy(), &facts, &one, now).state, one.state);
    }

    #[test]
    fn the_operator_always_wins(mut facts in any_facts(), before in any_state()) {
        facts.intent = Intent::Down;
        prop_assert_eq!(decide(&policy(), &facts, &last(before), Instant::now()).state, State::Withdrawn);
    }

    /// Raising one service's position never takes an announcement away.
    #[test]
    fn raising_a_verdict_never_withdraws(facts in any_facts(), before in any_state(), which: usize, to in any_position()) {
        let HealthFact::Known(services) = &facts.health else { return Ok(()) };
        let which = which % services.len();
        let old = &services[which];
        prop_assume!(rank(to) >= rank(old.health.position));
        let mut raised = facts.clone();
        if let HealthFact::Known(services) = &mut raised.health {
            // What has risen over low is proven by that (see ServiceHealth::proven).
            services[which].health.proven |= to != Position::Low;
            services[which].health.position = to;
        }
        let (now, before) = (Instant::now(), last(before));
        let from = decide(&policy(), &facts, &before, now).state;
        let to = decide(&policy(), &raised, &before, now).state;
        prop_assert!(!from.is_announced() || to.is_announced(), "{:?} became {:?}", from, to);
    }

    #[test]
    fn nothing_changes_between_the_watermarks(before in any_state()) {
        let facts = facts(vec![service("web", Position::Between, true), service("dns", Position::Full, true)]);
        let before = last(before);
        let after = decide(&policy(), &facts, &before, Instant::now());
        prop_assert_eq!(after.state, before.state);
        prop_assert_eq!(after.since, before.since);
    }
}
