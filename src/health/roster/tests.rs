//! Tests of the roster: what it does in order, and what holds in any order of events.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

mod plan;

use self::plan::plan;
use super::*;
use crate::config::services::{Level, Probe, Service, Watermark};
use crate::health::watermark::Levels;

const SUCCESS: Outcome = Outcome::Success { rtt: Duration::from_micros(50) };
const REFUSED: Outcome = Outcome::Failure(Failure::Refused);
const SILENCE: Outcome = Outcome::Failure(Failure::NoAnswer { within: Duration::from_millis(15) });
const FULL_TABLE: Outcome = Outcome::Failure(Failure::Local(Failure::OUT_OF_DESCRIPTORS));

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn roster(plan: &HealthPlan, now: Instant) -> Roster {
    let mut roster = Roster::new(7, crate::observe::journal::CauseIds::new(1, 0));
    roster.apply_plan(plan, now);
    roster
}

/// Makes every probe that is due, with one outcome for all; gives how many there were.
fn answer(roster: &mut Roster, outcome: &Outcome, now: Instant) -> usize {
    let jobs: Vec<Job> = std::iter::from_fn(|| roster.poll_probe(now)).collect();
    jobs.iter().for_each(|job| roster.handle_outcome(job.id, outcome, now));
    jobs.len()
}

/// Proves all backends up; gives the time it took.
fn bring_up(roster: &mut Roster, mut now: Instant) -> Instant {
    while answer(roster, &SUCCESS, now) > 0 {
        now += millis(100);
    }
    now
}

fn web(roster: &Roster, now: Instant) -> crate::health::ServiceHealth {
    roster.view(now).services["web"].clone()
}

fn open_all_holds(roster: &mut Roster, now: Instant) -> Vec<CheckId> {
    let holds: Vec<Hold> = std::iter::from_fn(|| roster.poll_hold(now)).collect();
    holds.iter().for_each(|hold| roster.handle_held_opened(hold.check, now));
    holds.into_iter().map(|hold| hold.check).collect()
}

#[test]
fn from_nothing_to_up_to_refused() {
    let start = Instant::now();
    let mut roster = roster(&plan(1, 8, |_| {}), start);
    assert_eq!(roster.next_deadline(), Some(start));
    let health = web(&roster, start);
    assert_eq!((health.position, health.proven, health.cause), (Position::Low, false, None));

    assert_eq!(answer(&mut roster, &SUCCESS, start), 1);
    assert_eq!(roster.next_deadline(), Some(start + millis(100)), "hurries while unproven");
    let proven_at = start + millis(100);
    answer(&mut roster, &SUCCESS, proven_at);
    assert_eq!(web(&roster, proven_at).position, Position::Full);
    assert_eq!(web(&roster, proven_at).since, proven_at);

    let checks = open_all_holds(&mut roster, proven_at);
    assert_eq!(checks.len(), 1);
    let ended_at = proven_at + millis(3);
    assert!(roster.poll_probe(ended_at).is_none());
    roster.take_changes();
    roster.handle_held_ended(checks[0], ended_at);
    assert_eq!(answer(&mut roster, &REFUSED, ended_at), 1);
    assert_eq!(roster.take_changes(), Changes { view: true, status: true });
    let health = web(&roster, ended_at);
    let cause = health.cause.expect("it fell");
    assert_eq!((health.position, health.since), (Position::Low, ended_at));
    assert_eq!((cause.backend.as_str(), cause.proven, cause.failed_at), ("b0", true, ended_at));
    assert_eq!(roster.status(ended_at)[0].state, "down");
}

#[test]
fn without_checks_all_are_up_as_soon_as_the_plan_is_there() {
    let start = Instant::now();
    let checked = plan(2, 8, |_| {});
    let unchecked = plan(2, 8, |service| service.check.probe = Probe::Off);
    let mut roster = roster(&unchecked, start);
    let up = |roster: &Roster, now| {
        let health = web(roster, now);
        (health.position, health.proven, health.healthy_weight, health.cause.is_none())
    };
    assert_eq!(up(&roster, start), (Position::Full, true, 2, true));
    assert!(roster.verdicts()["web"].values().all(|it| it.verdict == crate::catalog::backend::Verdict::Up));
    // Nobody is asked, and silence does not age.
    let year = start + Duration::from_secs(365 * 86_400);
    roster.handle_sweep(year);
    assert_eq!((roster.next_deadline(), answer(&mut roster, &REFUSED, year)), (None, 0));
    assert!(roster.poll_hold(year).is_none() && roster.take_turned().is_empty());
    assert_eq!(up(&roster, year), (Position::Full, true, 2, true));
    let status = &roster.status(year)[0];
    assert_eq!((status.state.as_str(), status.backends[0].verdict.as_str()), ("up", "up"));

    // With checks nothing is proven until they have spoken.
    roster.apply_plan(&checked, year);
    assert_eq!(up(&roster, year), (Position::Low, false, 0, true));
    answer(&mut roster, &REFUSED, year + Duration::from_secs(1));
    assert_eq!(web(&roster, year).healthy_weight, 0);
    let flying = bring_up(&mut roster, year + Duration::from_secs(2)) + Duration::from_secs(1);
    let late: Vec<Job> = std::iter::from_fn(|| roster.poll_probe(flying)).collect();
    assert_eq!(late.len(), 2);

    // And without them again, what is under way means nothing.
    roster.apply_plan(&unchecked, flying);
    late.iter().for_each(|job| roster.handle_outcome(job.id, &REFUSED, flying));
    assert_eq!(up(&roster, flying), (Position::Full, true, 2, true));
    assert_eq!(roster.next_deadline(), None);
}

#[test]
fn an_ended_connection_goes_before_all_that_is_overdue() {
    let start = Instant::now();
    let mut roster = roster(&plan(50, 50, |_| {}), start);
    let now = bring_up(&mut roster, start);
    let checks = open_all_holds(&mut roster, now);
    roster.apply_plan(&plan(50, 1, |_| {}), now);
    let late = now + Duration::from_secs(5);
    roster.handle_held_ended(checks[40], late);
    assert_eq!(roster.poll_probe(late).map(|job| job.check), Some(checks[40]));
    assert!(roster.poll_probe(late).is_none(), "one at a time");
    assert_eq!(roster.next_deadline(), Some(late + millis(500)), "the end of that one has to come first");
}

#[test]
fn the_one_that_took_the_service_down_is_to_blame() {
    let start = Instant::now();
    let mut roster = roster(&plan(3, 8, |_| {}), start);
    let now = bring_up(&mut roster, start);
    let checks = open_all_holds(&mut roster, now);
    let kill = |roster: &mut Roster, check: CheckId, outcome: &Outcome, at: Instant| {
        roster.handle_held_ended(check, at);
        let job = roster.poll_probe(at).expect("at once");
        assert_eq!(job.check, check);
        roster.handle_outcome(job.id, outcome, at);
    };
    let blamed = |roster: &Roster| web(roster, now).cause.map(|cause| cause.backend);
    for (order, check) in [(0u32, checks[1]), (1, checks[2]), (2, checks[0])] {
        assert_eq!(blamed(&roster), None);
        kill(&mut roster, check, &REFUSED, now + millis(1) * order);
    }
    assert_eq!(blamed(&roster).as_deref(), Some("b0"), "the last to fall took the service down");
    // It comes back but is not proven yet; then it is, and nobody is to blame.
    let later = now + Duration::from_secs(2);
    let job =
        std::iter::from_fn(|| roster.poll_probe(later)).find(|job| job.check == checks[0]).expect("due");
    roster.handle_outcome(job.id, &SUCCESS, later);
    assert_eq!(blamed(&roster).as_deref(), Some("b0"));
    let later = later + millis(100);
    let job = roster.poll_probe(later).expect("hurried");
    roster.handle_outcome(job.id, &SUCCESS, later);
    assert_eq!((blamed(&roster), web(&roster, later).position), (None, Position::Full));
}

#[test]
fn a_plan_keeps_answers_to_the_same_question_only() {
    type Change = fn(&mut Service);
    let table: [(&str, Change, bool); 9] = [
        ("nothing", |_| {}, true),
        ("interval", |service| service.check.interval = millis(50), true),
        ("rise and fall", |service| (service.check.rise, service.check.fall) = (9, 9), true),
        ("timeout", |service| service.check.timeout = millis(9), true),
        ("weight", |service| service.backends[0].weight = 7, true),
        ("no held connection", |service| service.check.held_connection = false, true),
        ("check port", |service| service.check.port = Some(9), false),
        ("address", |service| service.backends[0].address = IpAddr::V4(Ipv4Addr::BROADCAST), false),
        ("source", |service| service.check.source = Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), false),
    ];
    for (what, change, keeps) in table {
        let start = Instant::now();
        let mut roster = roster(&plan(1, 8, |_| {}), start);
        let now = bring_up(&mut roster, start);
        let held = open_all_holds(&mut roster, now)[0];
        // One is in flight across the change.
        let soon = now + millis(1100);
        let job = roster.poll_probe(soon).expect("due");
        let changed = plan(1, 8, change);
        roster.apply_plan(&changed, soon);
        let health = web(&roster, soon);
        assert_eq!(health.position == Position::Full, keeps, "{what}");
        assert_eq!(health.total_weight, changed.services["web"].backends[0].weight);
        let closed = roster.poll_release();
        assert_eq!(closed.is_some(), !keeps || what == "no held connection", "{what}");
        assert!(closed.is_none_or(|check| check == held));

        roster.handle_outcome(job.id, &REFUSED, soon);
        let verdict = roster.status(soon)[0].backends[0].verdict.clone();
        assert_eq!(
            verdict,
            if keeps { "down" } else { "unproven" },
            "{what}: a late answer to an old question"
        );
        roster.handle_outcome(job.id, &SUCCESS, soon);
        assert_eq!(roster.status(soon)[0].backends[0].verdict, verdict, "{what}: an outcome counts once");
    }
}

#[test]
fn a_shorter_interval_takes_effect_now_and_a_starved_verdict_shows() {
    let start = Instant::now();
    let mut roster = roster(&plan(1, 8, |service| service.check.interval = Duration::from_secs(3600)), start);
    let now = bring_up(&mut roster, start);
    open_all_holds(&mut roster, now);
    let mut late = now + Duration::from_secs(1800);
    roster.apply_plan(&plan(1, 8, |_| {}), late);
    assert_eq!(roster.next_deadline(), Some(late));
    roster.handle_sweep(late);
    assert_eq!(web(&roster, late).position, Position::Full);

    // From here on there is only trouble of our own: (1 s + 0.5 s) × 4 + 3 s after the change the old
    // probes are no longer believed.
    answer(&mut roster, &FULL_TABLE, late);
    late += millis(9001);
    roster.take_changes();
    roster.handle_sweep(late);
    assert!(roster.take_changes().view);
    let health = web(&roster, late);
    assert_eq!(health.position, Position::Low);
    assert!(
        health.cause.is_some_and(|cause| !cause.proven && cause.error.starts_with("not probed for 1809"))
    );
    answer(&mut roster, &SUCCESS, late);
    assert_eq!(web(&roster, late).position, Position::Full);
}

#[test]
fn a_probe_that_never_comes_back_is_an_answer_too() {
    let start = Instant::now();
    let mut roster = roster(&plan(2, 1, |_| {}), start);
    let first = roster.poll_probe(start).expect("due");
    assert_eq!(roster.next_deadline(), Some(start + millis(500)));
    assert_eq!(roster.poll_overdue(start + millis(499)), None);
    assert_eq!(roster.poll_overdue(start + millis(500)), Some(first.id));
    let late = start + millis(500);
    assert_eq!(roster.status(late)[0].backends[0].error.as_deref(), Some("no answer within 500ms"));
    roster.handle_outcome(first.id, &SUCCESS, late);
    assert_eq!(roster.status(late)[0].backends[0].probes, 1, "too late");
    assert!(roster.poll_probe(late).is_some(), "the slot is free again");
}

#[test]
fn held_connections_make_room_for_probes() {
    let start = Instant::now();
    let mut roster = roster(&plan(3, 8, |_| {}), start);
    let now = bring_up(&mut roster, start);
    assert_eq!(open_all_holds(&mut roster, now).len(), 3);
    let later = now + millis(1200);
    let jobs: Vec<Job> = std::iter::from_fn(|| roster.poll_probe(later)).collect();
    roster.handle_outcome(jobs[0].id, &FULL_TABLE, later);
    assert!(roster.poll_release().is_some());
    assert!(roster.poll_release().is_none(), "one for one");
    jobs[1..].iter().for_each(|job| roster.handle_outcome(job.id, &SUCCESS, later));
    assert_eq!(web(&roster, later).healthy_weight, 3, "our own fault is no verdict");
    assert!(roster.poll_hold(later + Duration::from_secs(59)).is_none());
}

#[test]
fn silence_beside_a_held_connection_gives_it_up() {
    let start = Instant::now();
    let mut roster = roster(&plan(1, 8, |_| {}), start);
    let now = bring_up(&mut roster, start);
    let held = open_all_holds(&mut roster, now);
    let later = now + millis(1200);
    answer(&mut roster, &SILENCE, later);
    assert_eq!(roster.poll_release(), held.first().copied());
    answer(&mut roster, &SUCCESS, later + millis(100));
    assert!(roster.poll_hold(later + Duration::from_millis(990)).is_none());
    assert!(roster.poll_hold(later + Duration::from_secs(61)).is_some());
}

// ---- any order of events

#[derive(Debug, Clone)]
enum Event {
    /// Time passes; then everything due is started.
    Wait(u64),
    /// One of the probes in flight ends so.
    End(prop::sample::Index, u8),
    /// A held connection is opened or ends.
    Hold(prop::sample::Index, bool),
    /// So many backends, another bound, and perhaps another question.
    Plan(u16, usize, bool),
    Sweep,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0u64..1500).prop_map(Event::Wait),
        12 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(which, how)| Event::End(which, how)),
        4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, ends)| Event::Hold(which, ends)),
        1 => (0u16..12, 1usize..9, any::<bool>()).prop_map(|(count, bound, other)| Event::Plan(count, bound, other)),
        1 => Just(Event::Sweep),
    ]
}

fn outcome(how: u8) -> Outcome {
    match how {
        0..=3 => SUCCESS,
        4 => SILENCE,
        5 => REFUSED,
        6 => Outcome::Failure(Failure::Reset),
        _ => FULL_TABLE,
    }
}

proptest! {
    #[test]
    fn in_any_order_of_events(events in prop::collection::vec(event(), 1..250)) {
        let mut now = Instant::now();
        let mut bound = 4;
        let mut roster = roster(&plan(6, bound, |_| {}), now);
        let mut flying: Vec<Job> = Vec::new();
        let mut held: BTreeSet<CheckId> = BTreeSet::new();
        // Successes in a row of each check, counted here as a second opinion.
        let mut rows: BTreeMap<CheckId, u32> = BTreeMap::new();
        for event in events {
            match event {
                Event::Wait(wait) => now += millis(wait),
                Event::End(which, how) if !flying.is_empty() => {
                    let job = flying.swap_remove(which.index(flying.len()));
                    let outcome = outcome(how);
                    let row = rows.entry(job.check).or_default();
                    match &outcome {
                        Outcome::Success { .. } => *row += 1,
                        Outcome::Failure(failure) if failure.is_local() => {}
                        // A cut-off may be an extra probe, which is not counted: it does not break the row here.
                        Outcome::Failure(failure) if failure.is_cut_off() => {}
                        Outcome::Failure(_) => *row = 0,
                    }
                    let was_up = roster.entries.get(&job.check).map(|entry| entry.check.standing().healthy);
                    let cause = roster.entries.get(&job.check).and_then(|entry| entry.check.cause());
                    let was_starved = cause.is_some_and(|cause| cause.error.starts_with("not probed"));
                    roster.handle_outcome(job.id, &outcome, now);
                    let is_up = roster.entries.get(&job.check).map(|entry| entry.check.standing().healthy);
                    // Starvation takes belief away, not proof: one success gives it back.
                    if (was_up, is_up) == (Some(false), Some(true)) && !was_starved {
                        prop_assert!(rows[&job.check] >= 2, "up without two in a row");
                    }
                    if outcome == REFUSED { prop_assert_ne!(is_up, Some(true)); }
                }
                Event::Hold(which, ends) if ends && !held.is_empty() => {
                    let check = *which.get(&held.iter().copied().collect::<Vec<_>>());
                    held.remove(&check);
                    roster.handle_held_ended(check, now);
                }
                Event::Hold(..) => {
                    if let Some(hold) = roster.poll_hold(now) {
                        prop_assert!(held.insert(hold.check), "two held connections to one backend");
                        roster.handle_held_opened(hold.check, now);
                    }
                }
                Event::Plan(count, new_bound, other) => {
                    bound = new_bound;
                    let port = other.then_some(99);
                    roster.apply_plan(&plan(count, bound, |service| service.check.port = port), now);
                }
                Event::Sweep => roster.handle_sweep(now),
                Event::End(..) => {}
            }
            while let Some(check) = roster.poll_release() {
                prop_assert!(held.remove(&check), "closed what was not there");
            }
            while let Some(job) = roster.poll_overdue(now) {
                let at = flying.iter().position(|flying| flying.id == job);
                prop_assert!(at.is_some(), "nobody makes this probe");
                rows.insert(flying.swap_remove(at.unwrap()).check, 0);
            }
            // Giving up on a probe may close a held connection.
            while let Some(check) = roster.poll_release() {
                prop_assert!(held.remove(&check), "closed what was not there");
            }
            let before = flying.len();
            flying.extend(std::iter::from_fn(|| roster.poll_probe(now)));
            prop_assert!(flying.len() <= bound.max(before), "more at once than allowed");
            // A probe of a check never overlaps another of its own.
            let checks: BTreeSet<CheckId> = flying.iter().map(|job| job.check).collect();
            prop_assert_eq!(checks.len(), flying.len());
            // No check is forgotten: each waits in the queue or has a probe in flight, not both.
            for (id, entry) in &roster.entries {
                prop_assert_ne!(entry.due.is_some(), checks.contains(id));
                if let Some(due) = entry.due {
                    prop_assert!(roster.due.contains(&due));
                    prop_assert!(due.at <= now + millis(1100));
                }
            }
            prop_assert_eq!(roster.due.len(), roster.entries.values().filter(|entry| entry.due.is_some()).count());
            if let Some(deadline) = roster.next_deadline() {
                prop_assert!(deadline > now || !roster.holds.is_empty(), "something was due and not handed out");
            }
            // The sums are those of the backends, and blame falls only on one that is down.
            let health = web(&roster, now);
            let healthy = roster.entries.values().filter(|entry| entry.check.standing().healthy).count();
            prop_assert_eq!(health.healthy_weight as usize, healthy);
            prop_assert_eq!(health.total_weight as usize, roster.entries.len());
            let position = Levels::of(&Watermark { low: Level::Weight(0), high: Level::Weight(1), degrade: None }, 0);
            prop_assert_eq!(health.position, position.position(health.healthy_weight));
            if let Some(cause) = health.cause {
                prop_assert_ne!(health.position, Position::Full);
                let blamed = roster.entries.values().find(|entry| entry.check.backend.id == cause.backend);
                prop_assert!(blamed.is_some_and(|entry| !entry.check.standing().healthy));
            }
        }
    }
}
mod owner;
