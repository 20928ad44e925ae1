//! What holds of the rules for every input.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

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
    let step = prop::option::weighted(
        0.3,
        prop_oneof![Just(Step::DePreferred), Just(Step::Withdrawn), Just(Step::Closed)],
    );
    (any::<bool>(), 0..3u8, step, any::<bool>(), any_lease(), health).prop_map(
        |(down, leaving, step, bound, lease, health)| Facts {
            intent: if down { Intent::Down } else { Intent::Up },
            leaving: [Leaving::No, Leaving::Graceful, Leaving::Gone][usize::from(leaving)],
            lease,
            drain: step.map(|step| DrainFact {
                step,
                left: Left::Quiet,
                words: String::new(),
                waits: None,
                cause: cause(),
            }),
            binding: if bound {
                Binding::Bound
            } else {
                Binding::Missing { address: "198.51.100.1".parse().unwrap(), error: "gone".to_owned() }
            },
            health,
            fleet: None,
        },
    )
}

fn any_lease() -> impl Strategy<Value = LeaseFact> {
    prop_oneof![
        2 => Just(LeaseFact::NotNeeded),
        2 => Just(LeaseFact::Valid),
        1 => Just(LeaseFact::Unproven { what: "worker 1".to_owned() }),
        1 => Just(LeaseFact::Expired { what: "worker 1".to_owned() }),
    ]
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
        prop_assert_eq!((one.state, &one.route, &one.reason), (two.state, &two.route, &two.reason));
        prop_assert!(!one.reason.sentence().is_empty() && !one.reason.change().is_empty());
        // Asked again with its own answer, it stays: no oscillation without news.
        prop_assert_eq!(decide(&policy(), &facts, &one, now).state, one.state);
    }

    #[test]
    fn the_operator_always_wins(mut facts in any_facts(), before in any_state()) {
        facts.intent = Intent::Down;
        prop_assert_eq!(decide(&policy(), &facts, &last(before), Instant::now()).state, State::Withdrawn);
    }

    #[test]
    fn nothing_is_announced_with_an_expired_lease(mut facts in any_facts(), before in any_state()) {
        facts.lease = LeaseFact::Expired { what: "worker 1".to_owned() };
        prop_assert_eq!(decide(&policy(), &facts, &last(before), Instant::now()).state, State::Withdrawn);
    }

    #[test]
    fn a_valid_lease_changes_nothing(facts in any_facts(), before in any_state()) {
        let (now, before) = (Instant::now(), last(before));
        let [without, with] = [LeaseFact::NotNeeded, LeaseFact::Valid].map(|lease| {
            let after = decide(&policy(), &Facts { lease, ..facts.clone() }, &before, now);
            (after.state, after.route, after.reason, after.cause)
        });
        prop_assert_eq!(without, with);
    }

    #[test]
    fn what_is_not_proven_yet_withdraws_nothing_and_announces_nothing(facts in any_facts(), before in any_state()) {
        let (now, before) = (Instant::now(), last(before));
        let unproven = Facts { lease: LeaseFact::Unproven { what: "worker 1".to_owned() }, ..facts.clone() };
        let without = decide(&policy(), &Facts { lease: LeaseFact::NotNeeded, ..facts }, &before, now).state;
        let with = decide(&policy(), &unproven, &before, now).state;
        let was = before.state.is_announced();
        prop_assert!(with.is_announced() == without.is_announced() || with.is_announced() == was);
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
        let after = decide(&damped(), &facts, &before, Instant::now());
        prop_assert_eq!(after.state, before.state);
        prop_assert_eq!(after.since, before.since);
    }
}
