//! What follows from outcomes, one after the other.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

const RTT: Duration = Duration::from_micros(80);
const SUCCESS: Outcome = Outcome::Success { rtt: RTT };
const REFUSED: Outcome = Outcome::Failure(Failure::Refused);
const RESET: Outcome = Outcome::Failure(Failure::Reset);
const LOCAL: Outcome = Outcome::Failure(Failure::Local("out of file descriptors"));
const SILENCE: Outcome = Outcome::Failure(Failure::NoAnswer { within: Duration::from_millis(500) });

fn check(now: Instant) -> Check {
    let settings = services::Check {
        probe: services::Probe::Tcp,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(100),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        source: None,
        port: None,
        held_connection: true,
    };
    let backend = services::Backend {
        id: "a".into(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 80,
        pop: None,
        via_ingress: false,
        region: "sa".into(),
        weight: 2,
        soft_limit: 100,
        hard_limit: 150,
        country: None,
        drain: false,
    };
    Check::new("web".into(), backend, Arc::new(settings), now)
}

fn feed(check: &mut Check, outcomes: &[Outcome], now: Instant) -> Tempo {
    let mut tempo = Tempo::Normal;
    for outcome in outcomes {
        check.handle_start(now);
        tempo = check.handle_outcome(outcome, now);
    }
    tempo
}

#[test]
fn tempo_follows_what_is_at_stake() {
    let now = Instant::now();
    let table: [(&[Outcome], Tempo, Verdict); 9] = [
        (&[SUCCESS], Tempo::Fast, Verdict::Unproven),
        (&[SUCCESS, SUCCESS], Tempo::Normal, Verdict::Up),
        (&[SUCCESS, SUCCESS, SILENCE], Tempo::Fast, Verdict::Up),
        (&[SUCCESS, SUCCESS, RESET], Tempo::AtOnce, Verdict::Up),
        (&[SUCCESS, SUCCESS, RESET, RESET], Tempo::Fast, Verdict::Up),
        (&[SUCCESS, SUCCESS, RESET, REFUSED], Tempo::Normal, Verdict::Down),
        (&[SUCCESS, SUCCESS, LOCAL, LOCAL, LOCAL, LOCAL], Tempo::Normal, Verdict::Up),
        (&[REFUSED, SUCCESS], Tempo::Fast, Verdict::Down),
        (&[SILENCE, SILENCE, SILENCE], Tempo::Normal, Verdict::Down),
    ];
    for (outcomes, tempo, verdict) in table {
        let mut check = check(now);
        assert_eq!(feed(&mut check, outcomes, now), tempo, "{outcomes:?}");
        assert_eq!(check.verdict(), verdict, "{outcomes:?}");
    }
}

#[test]
fn an_extra_probe_does_not_count_a_cut_off_twice() {
    let now = Instant::now();
    let mut check = check(now);
    feed(&mut check, &[SUCCESS, SUCCESS], now);
    // Counted are the first, third and fifth.
    feed(&mut check, &[RESET, RESET, RESET, RESET], now);
    assert_eq!(check.verdict(), Verdict::Up);
    feed(&mut check, &[RESET], now);
    assert_eq!(check.verdict(), Verdict::Down);
}

#[test]
fn the_end_of_the_held_connection_makes_wary() {
    let now = Instant::now();
    let mut check = check(now);
    feed(&mut check, &[SUCCESS, SUCCESS], now);
    assert!(check.handle_held_ended());
    assert_eq!(feed(&mut check, &[SUCCESS], now), Tempo::Fast);
    assert_eq!(feed(&mut check, &[SUCCESS], now), Tempo::Fast);
    assert_eq!(feed(&mut check, &[SUCCESS], now), Tempo::Normal);
    check.handle_start(now);
    assert!(!check.handle_held_ended(), "one is in flight");
    assert_eq!(check.handle_outcome(&SUCCESS, now), Tempo::AtOnce, "it may have started before the end");
}

#[test]
fn silence_that_turns_into_refusal_becomes_proof() {
    let now = Instant::now();
    let later = now + Duration::from_secs(9);
    let mut check = check(now);
    feed(&mut check, &[SILENCE, SILENCE, SILENCE], now);
    assert!(!check.cause().expect("down").proven);
    feed(&mut check, &[REFUSED], later);
    let cause = check.cause().expect("down");
    assert_eq!((cause.proven, cause.error.as_str(), cause.failed_at), (true, "connection refused", later));
    feed(&mut check, &[SILENCE], later);
    assert!(check.cause().expect("down").proven, "silence after proof proves nothing else");
    assert_eq!(check.status(later).error.as_deref(), Some("no answer within 500ms"));
    feed(&mut check, &[SUCCESS, SUCCESS], later);
    assert_eq!((check.cause(), check.status(later).error), (None, None));
}

#[test]
fn what_is_not_probed_is_not_believed() {
    let start = Instant::now();
    let max_age = Duration::from_secs(3);
    let mut check = check(start);
    feed(&mut check, &[SUCCESS, SUCCESS], start);
    // (1 s + 0.5 s) × 4 + 3 s
    assert!(!check.handle_sweep(max_age, start + Duration::from_secs(9)));
    let late = start + Duration::from_millis(9_001);
    feed(&mut check, &[LOCAL], late);
    assert!(check.handle_sweep(max_age, late), "a local error is not a probe");
    assert_eq!((check.verdict(), check.standing().healthy), (Verdict::Down, false));
    let words = "not probed for 9.001s: cannot probe from here: out of file descriptors";
    assert_eq!(check.status(late).error.as_deref(), Some(words));
    feed(&mut check, &[SILENCE], late);
    assert_eq!(check.verdict(), Verdict::Down, "a failure does not bring it back");
    feed(&mut check, &[SUCCESS], late);
    assert_eq!((check.verdict(), check.cause()), (Verdict::Up, None));
}

#[test]
fn a_shorter_interval_does_not_starve_what_was_in_order() {
    let start = Instant::now();
    let mut check = check(start);
    feed(&mut check, &[SUCCESS, SUCCESS], start);
    let hour = start + Duration::from_secs(3600);
    let mut settings = services::Check::clone(&check.settings);
    settings.interval = Duration::from_millis(500);
    let backend = check.backend.clone();
    assert!(check.asks_the_same(&backend, &settings));
    assert!(check.handle_settings(backend, Arc::new(settings), hour));
    assert!(!check.handle_sweep(Duration::from_secs(3), hour));
}
