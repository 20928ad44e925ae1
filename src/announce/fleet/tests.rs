//! The fleet's rule of withdrawals as tables: who may leave, and who is held.

use std::collections::BTreeMap;

use super::*;

const PREFIX: &str = "198.51.100.0/24";

fn failure(what: &str, at: Instant) -> Failure {
    Failure::new(what, at)
}

/// POP `m`; the others with their stances, all of them heard just now, knowing revision 5.
fn fact(others: &[(&str, Stance)], now: Instant) -> FleetFact {
    let of = |(name, stance): &(&str, Stance)| {
        let of = Arc::new(BTreeMap::from([(PREFIX.parse().unwrap(), stance.clone())]));
        ((*name).into(), HeardOf { at: now, answered: now, revision: 5, of })
    };
    FleetFact {
        prefix: PREFIX.parse().unwrap(),
        min_announcers: 1,
        heard: Arc::new(Heard {
            own: "m".into(),
            members: others.len().max(1),
            pops: others.iter().map(of).collect(),
        }),
        told: None,
        dark_since: None,
    }
}

fn change(fact: &mut FleetFact, name: &str, change: impl FnOnce(&mut HeardOf)) {
    change(Arc::make_mut(&mut fact.heard).pops.get_mut(name).unwrap());
}

fn last(others: u32) -> Outlook {
    Outlook::Needed(Hold::Last { others, min_announcers: 1 })
}

const ASKING: Outlook = Outlook::Needed(Hold::Asking);

#[test]
fn who_is_not_needed_leaves_at_once_and_a_keeper_asks_first() {
    let now = Instant::now();
    let own = failure("below-watermark web", now);
    let want = Want::Fail { failure: &own, proven: true };
    let before = fact(&[("a", Stance::Announced), ("z", Stance::Announced)], now);
    assert_eq!(before.may_leave(want, now), Outlook::Spared);
    let mut keeper = fact(&[("a", Stance::Announced), ("b", Stance::Announced)], now);
    assert_eq!(keeper.may_leave(want, now), ASKING);
    keeper.told = Some(6);
    assert_eq!(keeper.may_leave(want, now), ASKING);
    change(&mut keeper, "a", |pop| pop.revision = 6);
    assert_eq!(keeper.may_leave(want, now), ASKING, "b may still count on us");
    change(&mut keeper, "b", |pop| pop.revision = 6);
    assert_eq!(keeper.may_leave(want, now), Outlook::Spared);
    // Whoever has not been heard for a while does not count on us any more, and is not waited for.
    change(&mut keeper, "b", |pop| pop.revision = 5);
    assert_eq!(keeper.may_leave(want, now + Duration::from_millis(1_600)), Outlook::Spared);
}

#[test]
fn the_last_one_is_held_and_so_is_who_would_leave_too_few() {
    let now = Instant::now();
    let (own, other) = (failure("below-watermark web", now), failure("below-watermark dns", now));
    let want = Want::Fail { failure: &own, proven: true };
    for stance in [Stance::Withdrawn, Stance::Draining, Stance::Held(other.clone()), Stance::Failed(other)] {
        assert_eq!(fact(&[("z", stance)], now).may_leave(want, now), last(0));
    }
    let mut two = fact(&[("y", Stance::Announced), ("z", Stance::Announced)], now);
    two.min_announcers = 3;
    let hold = Hold::Last { others: 2, min_announcers: 3 };
    assert_eq!(two.may_leave(want, now), Outlook::Needed(hold));
    two.min_announcers = 0;
    assert_eq!(two.may_leave(want, now), Outlook::Spared);
}

#[test]
fn whoever_does_not_hear_us_is_not_counted_on() {
    let now = Instant::now();
    let own = failure("lease-expired", now);
    let want = Want::Fail { failure: &own, proven: true };
    let mut deaf = fact(&[("y", Stance::Withdrawn), ("z", Stance::Announced)], now);
    change(&mut deaf, "z", |pop| pop.answered = now - Duration::from_secs(2));
    assert_eq!(deaf.may_leave(want, now), last(0));
}

#[test]
fn an_operator_asks_all_the_same() {
    let now = Instant::now();
    let mut before = fact(&[("a", Stance::Announced), ("z", Stance::Announced)], now);
    assert_eq!(before.may_leave(Want::Drain, now), ASKING);
    before.told = Some(5);
    assert_eq!(before.may_leave(Want::Drain, now), Outlook::Spared);
}

#[test]
fn a_shared_fault_is_held_and_one_of_its_own_is_not() {
    let now = Instant::now();
    let own = failure("below-watermark web", now);
    let want = Want::Fail { failure: &own, proven: true };
    let same = |age| Stance::Failed(failure("below-watermark web", now - Duration::from_secs(age)));
    let other = Stance::Failed(failure("below-watermark dns", now));
    let others = |first: Stance| {
        fact(&[("a", first), ("x", Stance::Announced), ("z", Stance::Announced)], now).may_leave(want, now)
    };
    let held = Hold::Shared { what: "below-watermark web".into(), others: vec!["a".into()] };
    assert_eq!(others(same(2)), Outlook::Needed(held));
    assert_eq!(others(same(60)), Outlook::Spared, "it failed long ago");
    assert_eq!(others(other), Outlook::Spared, "it fails for something else");
    let many = [("a", same(2)), ("w", Stance::Announced), ("x", Stance::Announced), ("z", Stance::Announced)];
    assert_eq!(fact(&many, now).may_leave(want, now), Outlook::Spared, "two of five");
}

#[test]
fn what_is_only_inferred_waits_for_its_turn_and_alone_it_is_held() {
    let now = Instant::now();
    let own = failure("below-watermark web", now);
    let inferred = Want::Fail { failure: &own, proven: false };
    let third = [("a", Stance::Announced), ("b", Stance::Announced), ("z", Stance::Announced)];
    assert_eq!(fact(&third, now).may_leave(inferred, now), ASKING);
    let turn = now + Duration::from_millis(300);
    assert_eq!(fact(&third, now).may_leave(inferred, turn), Outlook::Spared);

    let mut alone = fact(&[], now);
    assert_eq!(alone.may_leave(inferred, now), Outlook::Needed(Hold::Isolated));
    assert_eq!(alone.may_leave(Want::Drain, now), Outlook::Needed(Hold::Isolated));
    let proven = Want::Fail { failure: &own, proven: true };
    assert_eq!(alone.may_leave(proven, now), Outlook::Spared);
    Arc::make_mut(&mut alone.heard).members = 0;
    assert_eq!(alone.may_leave(inferred, now), Outlook::Spared, "a fleet of one");
}

#[test]
fn after_lights_out_they_return_one_after_the_other() {
    let now = Instant::now();
    let other = Stance::Failed(failure("below-watermark web", now));
    let mut dark = fact(&[("a", other.clone()), ("z", other)], now);
    assert!(dark.is_dark(now));
    dark.dark_since = Some(now);
    assert!(!dark.must_return(now + Duration::from_millis(900)));
    assert!(dark.must_return(now + Duration::from_millis(1_000)));
    let lit = fact(&[("a", Stance::Draining), ("z", Stance::Withdrawn)], now);
    assert!(!lit.is_dark(now));
    assert!(!fact(&[], now).is_dark(now), "nobody is heard: nothing is known");
}
