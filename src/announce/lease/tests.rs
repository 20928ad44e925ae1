//! When a lease counts as expired, and whom that concerns.

use proptest::prelude::*;

use super::*;
use crate::config::load::parse;

const LEASE: Duration = Duration::from_millis(60);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn served(age: u64) -> Reading {
    Reading { never: None, oldest: Some((1, millis(age))) }
}

fn expired(age: u64) -> Workers {
    Workers::Expired { worker: 1, age: millis(age), lease: LEASE }
}

/// An alarm that has seen all workers well, and looks again 60 ms after `start`.
fn armed(start: Instant) -> Alarm {
    let mut alarm = Alarm::default();
    alarm.handle_look(served(0), LEASE, start);
    assert_eq!((alarm.workers(), alarm.next_deadline()), (Workers::Valid, Some(start + LEASE)));
    alarm
}

#[test]
fn it_looks_when_the_oldest_lease_would_expire_and_not_before() {
    let start = Instant::now();
    let mut alarm = armed(start);
    alarm.handle_look(served(11), LEASE, start + LEASE);
    assert_eq!((alarm.workers(), alarm.next_deadline()), (Workers::Valid, Some(start + millis(109))));
    // Looks in between change nothing but that.
    alarm.handle_look(served(2), LEASE, start + millis(70));
    assert_eq!(alarm.next_deadline(), Some(start + millis(128)));
}

#[test]
fn silence_counts_at_the_end_of_the_lease_and_its_words_stay() {
    let start = Instant::now();
    let mut alarm = armed(start);
    alarm.handle_look(served(59), LEASE, start + millis(59));
    assert_eq!(alarm.workers(), Workers::Valid);
    alarm.handle_look(served(61), LEASE, start + millis(61));
    assert_eq!((alarm.workers(), alarm.next_deadline()), (expired(61), Some(start + millis(121))));
    // However late the next looks are: what is known is known.
    alarm.handle_look(served(300), LEASE, start + millis(300));
    assert_eq!((alarm.workers(), alarm.next_deadline()), (expired(61), Some(start + millis(360))));
    alarm.handle_look(served(5), LEASE, start + millis(360));
    assert_eq!((alarm.workers(), alarm.next_deadline()), (Workers::Valid, Some(start + millis(415))));
}

#[test]
fn who_stood_still_himself_lets_the_others_renew_first() {
    let start = Instant::now();
    let mut alarm = armed(start);
    alarm.handle_look(served(200), LEASE, start + millis(200));
    assert_eq!((alarm.workers(), alarm.next_deadline()), (Workers::Valid, Some(start + millis(215))));
    // A judgement for another reason does not cut it short.
    alarm.handle_look(served(205), LEASE, start + millis(205));
    assert_eq!((alarm.workers(), alarm.next_deadline()), (Workers::Valid, Some(start + millis(215))));
    let mut renewed = Alarm { ..alarm };
    renewed.handle_look(served(10), LEASE, start + millis(215));
    assert_eq!(renewed.workers(), Workers::Valid);
    let mut alarm = armed(start);
    alarm.handle_look(served(200), LEASE, start + millis(200));
    alarm.handle_look(served(215), LEASE, start + millis(215));
    assert_eq!(alarm.workers(), expired(215), "nobody did");
}

#[test]
fn being_late_each_time_excuses_nobody_for_ever() {
    let start = Instant::now();
    let mut alarm = armed(start);
    let looks = (1..=4).map(|look| {
        alarm.handle_look(served(look * 100), LEASE, start + millis(look * 100));
        alarm.workers()
    });
    assert_eq!(looks.collect::<Vec<_>>(), [Workers::Valid, Workers::Valid, Workers::Valid, expired(400)]);
}

#[test]
fn a_shorter_lease_counts_from_the_next_look_on() {
    let start = Instant::now();
    let mut alarm = Alarm::default();
    alarm.handle_look(served(0), millis(5_000), start);
    // Pulses still come as the longer one asked for.
    alarm.handle_look(served(1_000), LEASE, start + millis(1_000));
    assert_eq!((alarm.workers(), alarm.next_deadline()), (Workers::Valid, Some(start + millis(5_000))));
    alarm.handle_look(served(10), LEASE, start + millis(1_010));
    assert_eq!(alarm.next_deadline(), Some(start + millis(1_060)));
}

#[test]
fn who_never_served_is_not_proven_and_is_not_waited_for_without_end() {
    let start = Instant::now();
    let none = Reading { never: Some(0), oldest: None };
    let mut alarm = Alarm::default();
    for ms in [0, 60, 4_999] {
        alarm.handle_look(none, LEASE, start + millis(ms));
        let expected = (Workers::Unproven { worker: 0 }, Some(start + millis(ms) + LEASE));
        assert_eq!((alarm.workers(), alarm.next_deadline()), expected);
    }
    alarm.handle_look(none, LEASE, start + millis(5_000));
    assert_eq!(alarm.workers(), Workers::Missing { worker: 0 });
    // One that hangs says more than one that has not come yet.
    let both = Reading { oldest: Some((1, millis(70))), ..none };
    let mut alarm = armed(start);
    alarm.handle_look(both, LEASE, start + millis(62));
    assert_eq!(alarm.workers(), expired(70));
    // A rest in between begins the wait anew.
    let mut alarm = armed(start);
    alarm.handle_look(none, LEASE, start + millis(60_000));
    assert_eq!(alarm.workers(), Workers::Unproven { worker: 0 });
    alarm.handle_rest();
    assert_eq!(alarm.next_deadline(), None, "nobody wakes for what nobody needs");
}

#[test]
fn what_was_renewed_before_anybody_needed_it_is_nobodys_failure() {
    let start = Instant::now();
    let mut alarm = Alarm::default();
    alarm.handle_look(served(90_000), LEASE, start);
    assert_eq!(
        (alarm.workers(), alarm.next_deadline()),
        (Workers::Unproven { worker: 0 }, Some(start + LEASE))
    );
    alarm.handle_look(served(90_060), LEASE, start + LEASE);
    assert_eq!(alarm.workers(), expired(90_060));
}

const CONFIG: &str = "
generation: 1
pop: { id: gru1, region: sa }
bgp:
  asn: 64512
  router_id: 192.0.2.10
  neighbors: [{ name: a, address: 192.0.2.1, asn: 64500, families: [ipv4] }]
anycast:
  - { prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web, plain] }
  - { prefix: 203.0.113.0/24, addresses: [203.0.113.1], services: [plain] }
  - { prefix: 192.0.2.0/24, addresses: [192.0.2.53], services: [dns] }
services:
  - name: web
    listen: [{ address: 198.51.100.1, port: 443 }]
    backends: [{ id: a, address: 10.0.0.1, port: 80 }]
  - name: plain
    backends: [{ id: b, address: 10.0.0.2, port: 80 }]
  - name: dns
    listen: [{ address: 192.0.2.53, port: 53, protocol: udp }]
    backends: [{ id: c, address: 10.0.0.3, port: 53 }]
    health: off
";

fn plan() -> Plan {
    Plan::of(&parse(CONFIG, std::path::Path::new("")).unwrap())
}

/// What becomes of the prefixes of `web`, `plain` and `dns`.
fn leases(data_path: &DataPath, now: Instant) -> [LeaseFact; 3] {
    let plan = plan();
    ["198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24"].map(|prefix| {
        let prefix = crate::config::anycast::AnycastPrefix::new(prefix.parse().unwrap()).unwrap();
        data_path.lease_of(&plan.anycast[&prefix], &plan, now)
    })
}

fn paths(health: Option<PathHealth>) -> Option<Arc<Paths>> {
    let by_service = health.map(|health| ("web".to_owned(), health)).into_iter().collect();
    Some(Arc::new(Paths { probing: true, by_service }))
}

#[test]
fn each_prefix_is_asked_for_what_serves_it() {
    let now = Instant::now();
    let failing = PathHealth::Failing {
        since: now,
        failures: 3,
        error: "no answer within 500ms".to_owned(),
        listener: "198.51.100.1:443".to_owned(),
        last_ok: None,
    };
    let serving = |age| PathHealth::Serving { last: now - millis(age) };
    let unheld = Workers::Unproven { worker: 1 };
    let quiet = Some(Arc::new(Paths::default()));
    // What is said of web, and of dns, which cannot be probed.
    let table = [
        (Workers::Valid, paths(Some(serving(0))), "valid", "valid", ""),
        (Workers::Valid, quiet.clone(), "valid", "valid", ""),
        (Workers::Valid, paths(None), "unproven", "valid", "no self-probe of web has ended yet"),
        (
            Workers::Valid,
            paths(Some(PathHealth::Unproven)),
            "unproven",
            "valid",
            "no self-probe of web has ended yet",
        ),
        (
            Workers::Valid,
            paths(Some(failing.clone())),
            "expired",
            "valid",
            "198.51.100.1:443 does not serve: no answer within 500ms (3 in a row)",
        ),
        (Workers::Valid, paths(Some(serving(7_499))), "valid", "valid", ""),
        (
            Workers::Valid,
            paths(Some(serving(7_500))),
            "expired",
            "valid",
            "no self-probe of web has come through for 7.5s",
        ),
        (Workers::Valid, None, "expired", "expired", "the self-probes are gone"),
        (unheld, paths(Some(serving(0))), "unproven", "unproven", "worker 1 has served nothing yet"),
        (
            unheld,
            paths(Some(failing)),
            "expired",
            "unproven",
            "198.51.100.1:443 does not serve: no answer within 500ms (3 in a row)",
        ),
        (
            expired(84),
            paths(Some(serving(0))),
            "expired",
            "expired",
            "worker 1 has served nothing for 84 ms (lease 60 ms)",
        ),
        (
            Workers::Missing { worker: 0 },
            quiet,
            "expired",
            "expired",
            "worker 0 has served nothing in its first 5s",
        ),
    ];
    for (workers, paths, web, dns, words) in table {
        let facts = leases(&DataPath { workers, paths }, now);
        let names = facts.each_ref().map(LeaseFact::name);
        assert_eq!(names, [Some(web), None, Some(dns)], "{words}");
        assert_eq!(facts[0].what().unwrap_or_default(), words);
    }
}

#[test]
fn silence_of_the_self_probes_has_its_moment() {
    let now = Instant::now();
    let path = |last| DataPath { workers: Workers::Valid, paths: paths(Some(PathHealth::Serving { last })) };
    assert_eq!(path(now).next_deadline(&plan(), now), Some(now + millis(7_500)));
    assert_eq!(path(now - millis(7_500)).next_deadline(&plan(), now), None);
    assert!(is_needed(&plan()));
    let mut plan = plan();
    plan.listens.clear();
    assert!(!is_needed(&plan));
    assert_eq!(path(now).next_deadline(&plan, now), None);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Time passes, and the driver looks when it is due, late by so much.
    Wait {
        ms: u64,
        late: u64,
    },
    Renew,
}

proptest! {
    /// A worker that is silent is found out one lease after its last renewal, if the driver is on time; one that
    /// renews is never, and neither needs more than about one look in a lease.
    #[test]
    fn it_is_found_out_in_time_and_nobody_else_is(
        steps in prop::collection::vec(
            prop_oneof![
                (0..50u64, Just(0u64)).prop_map(|(ms, late)| Step::Wait { ms, late }),
                (0..200u64, prop_oneof![Just(0u64), 0..100u64]).prop_map(|(ms, late)| Step::Wait { ms, late }),
                Just(Step::Renew),
            ],
            0..60,
        )
    ) {
        let start = Instant::now();
        let (mut now, mut renewed, mut looks, mut ever_late) = (start, start, 0u32, false);
        let mut alarm = armed(start);
        for step in steps {
            match step {
                Step::Renew => renewed = now,
                Step::Wait { ms, late } => {
                    let until = now + millis(ms);
                    ever_late |= late > 0;
                    while let Some(due) = alarm.next_deadline().filter(|due| *due + millis(late) <= until) {
                        now = now.max(due + millis(late));
                        let age = now - renewed;
                        alarm.handle_look(Reading { never: None, oldest: Some((1, age)) }, LEASE, now);
                        looks += 1;
                        prop_assert!(alarm.next_deadline().is_some_and(|due| due > now));
                        let is_expired = matches!(alarm.workers(), Workers::Expired { .. });
                        prop_assert!(!is_expired || age >= LEASE, "expired at {:?}", age);
                        prop_assert!(is_expired || ever_late || age < LEASE, "not expired at {:?}", age);
                        // Graces have an end.
                        prop_assert!(is_expired || age < LEASE * 2 + millis(4 * 115), "not expired at {:?}", age);
                    }
                    now = until;
                }
            }
        }
        // A look is followed by one at the expiry of what was renewed last: at most one for each renewal more.
        let most = (now - start).as_millis() / 15 + 2;
        prop_assert!(u128::from(looks) <= most, "{} looks in {:?}", looks, now - start);
    }
}
