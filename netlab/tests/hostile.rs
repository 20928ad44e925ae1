//! A hostile neighbor against the real router: each offence gets the answer of the RFCs, and the good neighbor notices nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/offences.rs"]
mod offences;
#[path = "support/raw_speaker.rs"]
mod raw_speaker;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use netlab::collector::craft;
use netlab::sys::namespace::is_root;
use offences::{In, Right, offences};
use raw_speaker::{ASN, Heard, LONG, Pop, Raw, good_open, hostile, prefix};

/// Whether the test can run here; says so loudly if not.
fn is_skipped(test: &str) -> bool {
    if !is_root() {
        println!("SKIPPED {test}: it needs root for network namespaces");
    }
    !is_root()
}

/// What the router did, in the words of the table.
fn answer(pop: &Pop, number: u8, raw: &mut Raw, right: Right) -> Result<(), String> {
    let withdrawals = || pop.status_of(number)["treated_as_withdraw"].as_u64();
    match right {
        Right::Stays | Right::TreatedAsWithdraw => {
            // What comes after the offence is answered: the offence has been read, the session lives.
            raw.send(&craft::route_refresh(1));
            loop {
                match raw.hear(LONG) {
                    Heard::Message(netlab::bgp_stream::Kind::Update(update))
                        if update.announced.contains(&prefix()) =>
                    {
                        break;
                    }
                    Heard::Message(netlab::bgp_stream::Kind::Notification(said)) => {
                        return Err(said.to_string());
                    }
                    Heard::Message(_) => {}
                    other => return Err(format!("{other:?}")),
                }
            }
            let wanted = u64::from(matches!(right, Right::TreatedAsWithdraw));
            // The status may be a second old: OPEN, KEEPALIVE and the offence must be in it.
            pop.wait_status_of(number, "the offence counted", |neighbor| {
                neighbor["messages_in"].as_u64() >= Some(3)
            });
            match withdrawals() {
                Some(found) if found == wanted => Ok(()),
                found => Err(format!("the session stays, treated_as_withdraw is {found:?}")),
            }
        }
        Right::Closed | Right::Notified(..) | Right::NotifiedWith(..) => {
            let said = raw.hear_end().map_err(|heard| format!("not closed: {heard:?}"))?;
            let as_wanted = match (&said, right) {
                (None, Right::Closed) => true,
                (Some((code, subcode, _)), Right::Notified(c, s)) => (*code, *subcode) == (c, s),
                (Some((code, subcode, data)), Right::NotifiedWith(c, s, d)) => {
                    (*code, *subcode) == (c, s) && data == d
                }
                _ => false,
            };
            if as_wanted { Ok(()) } else { Err(format!("{said:?}")) }
        }
    }
}

#[test]
fn each_offence_gets_its_answer_and_harms_nobody_else() {
    if is_skipped("each_offence_gets_its_answer_and_harms_nobody_else") {
        return;
    }
    let cases = offences();
    let mut pop = Pop::new(u8::try_from(cases.len()).unwrap(), "");
    let mut wrong = Vec::new();
    for (number, case) in (1..).zip(&cases) {
        println!("{}", case.name);
        let mut raw = pop.connect(number);
        match case.state {
            In::OpenSent => raw.hear_open(),
            In::OpenConfirm => raw.open(number),
            In::Established => raw.establish(number),
        }
        raw.send(&case.octets);
        if let Err(found) = answer(&pop, number, &mut raw, case.right) {
            wrong.push(format!(
                "{} in {:?}: expected {:?}, found {found}; sent {:02x?}",
                case.name, case.state, case.right, case.octets
            ));
        }
        pop.assert_unharmed(case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A xorshift generator from a fixed seed: the same octets in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn octets(&mut self, most: u64) -> Vec<u8> {
        (0..=self.next() % most).map(|_| self.next() as u8).collect()
    }

    /// Every other string is framed as a message, or it would never come past the marker.
    fn string(&mut self) -> Vec<u8> {
        let body = self.octets(300);
        let kind = (self.next() % 7) as u8;
        if self.next().is_multiple_of(2) { body } else { craft::message(kind, &body) }
    }
}

#[test]
fn two_thousand_random_strings_harm_nobody() {
    if is_skipped("two_thousand_random_strings_harm_nobody") {
        return;
    }
    const NEIGHBORS: u8 = 200;
    let mut pop = Pop::new(NEIGHBORS, "");
    let mut noise = Noise(0x00ed_6e94_0257);
    let (mut ended, mut silent) = (0, 0);
    for round in 0..10 {
        if round > 0 {
            pop.forgive(round + 1);
        }
        let mut connections = Vec::new();
        for number in 1..=NEIGHBORS {
            let mut raw = pop.connect(number);
            let after_open = number % 2 == 0;
            let established = number % 4 == 0;
            if established {
                raw.establish(number);
            } else if after_open {
                raw.open(number);
            } else {
                // Not refused at once: what follows is really read.
                raw.hear_open();
            }
            raw.send(&noise.string());
            connections.push(raw);
        }
        for mut raw in connections {
            loop {
                match raw.hear(Duration::from_millis(1)) {
                    Heard::Message(_) => {}
                    Heard::Closed => break ended += 1,
                    // A length that waits for more, or an UPDATE that could be followed.
                    Heard::Silence => break silent += 1,
                }
            }
        }
        pop.assert_unharmed(&format!("round {round}"));
    }
    println!("2,000 random strings: {ended} connections ended by the router, {silent} left waiting");
    assert!(ended > 1000, "{ended}");
}

#[test]
fn half_an_open_and_the_end_is_forgotten() {
    if is_skipped("half_an_open_and_the_end_is_forgotten") {
        return;
    }
    let mut pop = Pop::new(1, "");
    let open = good_open(1);
    for end in [0, 1, 18, 19, 28, open.len() - 1] {
        let mut raw = pop.connect(1);
        raw.hear_open();
        raw.send(&open[..end]);
        raw.finish();
        assert_eq!(raw.hear_end(), Ok(None), "after {end} octets");
    }
    // It did nothing forbidden, so it is welcome at once.
    pop.connect(1).establish(1);
    pop.assert_unharmed("half an OPEN");
}

#[test]
fn one_octet_a_second_is_waited_for() {
    if is_skipped("one_octet_a_second_is_waited_for") {
        return;
    }
    let mut pop = Pop::new(2, "");
    let mut raw = pop.connect(1);
    raw.hear_open();
    let open = good_open(1);
    for octet in &open[..5] {
        raw.send(&[*octet]);
        assert_eq!(raw.hear(Duration::from_secs(1)), Heard::Silence);
        // Others are served meanwhile.
        pop.connect(2).establish(2);
        pop.assert_unharmed("one more octet");
    }
    raw.send(&open[5..]);
    raw.send(&craft::keepalive());
    raw.hear_prefix();
    pop.assert_unharmed("a slow OPEN");
}

#[test]
fn strangers_are_closed_without_a_word() {
    if is_skipped("strangers_are_closed_without_a_word") {
        return;
    }
    let mut pop = Pop::new(1, "");
    let mut connections: Vec<Raw> = Vec::new();
    for _ in 0..200 {
        let mut raw = pop.connect_from(Ipv4Addr::new(10, 0, 2, 1));
        raw.send(&good_open(1));
        connections.push(raw);
    }
    for mut raw in connections {
        assert_eq!(raw.hear(LONG), Heard::Closed);
    }
    // A neighbor is let in right behind them.
    pop.connect(1).establish(1);
    pop.assert_unharmed("200 strangers");
}

#[test]
fn too_many_prefixes_close_the_session_and_keep_it_closed() {
    if is_skipped("too_many_prefixes_close_the_session_and_keep_it_closed") {
        return;
    }
    let mut pop = Pop::new(1, ", max_prefixes: 10");
    let mut raw = pop.connect(1);
    raw.establish(1);
    let announce =
        |count| craft::announce(&craft::many(Ipv4Addr::new(203, 0, 0, 0), count), &[ASN], hostile(1).into());
    // Ten are allowed, also twice.
    for _ in 0..2 {
        raw.send(&announce(10));
    }
    raw.send(&craft::route_refresh(1));
    raw.hear_prefix();
    raw.send(&announce(11));
    assert!(matches!(raw.hear_end(), Ok(Some((6, 1, _)))), "RFC 4486 §4: Cease, maximum number of prefixes");
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_eq!(pop.connect(1).hear(LONG), Heard::Closed);
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = pop.status_of(1);
    assert_eq!(status["established_count"], 1, "{status:#}");
    assert!(status["last_error"].as_str().is_some_and(|words| words.contains("max_prefixes")), "{status:#}");
    pop.assert_unharmed("too many prefixes");
}

#[test]
fn a_neighbor_that_connects_without_end_does_not_fill_the_log() {
    if is_skipped("a_neighbor_that_connects_without_end_does_not_fill_the_log") {
        return;
    }
    let mut pop = Pop::new(2, ", max_prefixes: 1");
    // The first is left alone after a limit, the second is welcome each time.
    let mut raw = pop.connect(1);
    raw.establish(1);
    let two = craft::announce(&craft::many(Ipv4Addr::new(203, 0, 0, 0), 2), &[ASN], hostile(1).into());
    raw.send(&two);
    raw.hear_end().unwrap();
    for number in [1, 2] {
        for _ in 0..300 {
            drop(pop.connect(number));
        }
    }
    // Where too many wait, one more is dropped: a neighbor tries again.
    let deadline = Instant::now() + LONG;
    while matches!(pop.connect(2).hear(LONG), Heard::Closed) {
        assert!(Instant::now() < deadline, "never let in again");
    }
    pop.assert_unharmed("600 connections");
    let log = pop.router.tail(1000);
    assert!(log.contains("connection closed at once: idle hold"), "{log}");
    assert!(log.lines().count() < 60, "{log}");
}

/// Lets the router have this many file descriptors, also when it has more already.
fn limit_descriptors(pid: u32, most: u64) {
    // The soft limit: nobody may raise the hard one again.
    let limit = format!("--nofile={most}:");
    let done = std::process::Command::new("prlimit").args(["--pid", &pid.to_string(), &limit]).status();
    assert!(done.unwrap().success());
}

#[test]
fn a_neighbor_waits_while_there_are_no_descriptors() {
    if is_skipped("a_neighbor_waits_while_there_are_no_descriptors") {
        return;
    }
    let mut pop = Pop::new(1, "");
    let pid = pop.router.pid().unwrap();
    limit_descriptors(pid, 4);
    let mut raw = pop.connect(1);
    assert_eq!(raw.hear(Duration::from_secs(3)), Heard::Silence, "neither accepted nor closed");
    limit_descriptors(pid, 1024);
    raw.establish(1);
    pop.assert_unharmed("no descriptors");
    let log = pop.router.tail(1000);
    let complaints = log.lines().filter(|line| line.contains("cannot accept BGP connections")).count();
    assert!((1..10).contains(&complaints), "{complaints} complaints\n{log}");
}

#[test]
fn the_last_words_reach_a_neighbor_that_keeps_sending() {
    if is_skipped("the_last_words_reach_a_neighbor_that_keeps_sending") {
        return;
    }
    let mut pop = Pop::new(1, ", max_prefixes: 10");
    let mut raw = pop.connect(1);
    raw.establish(1);
    let many = craft::announce(&craft::many(Ipv4Addr::new(203, 0, 0, 0), 100), &[ASN], hostile(1).into());
    // Far more than the router reads at once. Closed over what is unread, it would answer with a reset,
    // which makes some systems forget what they have not yet handed to their BGP.
    raw.send_whole(&many.repeat(4 * 1024 * 1024 / many.len()));
    assert!(matches!(raw.hear_end(), Ok(Some((6, 1, _)))));
    pop.assert_unharmed("a neighbor that keeps sending");
}

#[test]
fn a_neighbor_that_never_closes_does_not_hold_the_stop() {
    if is_skipped("a_neighbor_that_never_closes_does_not_hold_the_stop") {
        return;
    }
    let mut pop = Pop::new(1, "");
    let mut raw = pop.connect(1);
    raw.establish(1);
    let begin = Instant::now();
    pop.router.terminate().unwrap();
    pop.router.wait_exit(LONG).unwrap();
    // One second of GRACEFUL_SHUTDOWN is configured; half a second is the neighbor's to close.
    let took = begin.elapsed();
    println!("stopped after {took:?}");
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(6), "{took:?}");
    assert!(matches!(raw.hear_end(), Ok(Some((6, 2, _)))), "RFC 9003: Cease, administrative shutdown");
}

/// RFC 2918 §4; and RFC 6286 §2.1: another AS may use our identifier.
#[test]
fn a_neighbor_with_our_identifier_may_ask_again() {
    if is_skipped("a_neighbor_with_our_identifier_may_ask_again") {
        return;
    }
    let mut pop = Pop::new(1, "");
    let mut raw = pop.connect(1);
    raw.hear_open();
    raw.send(&craft::open(ASN, 90, Ipv4Addr::new(10, 0, 0, 2), &[(1, 1)]));
    raw.send(&craft::keepalive());
    raw.hear_prefix();
    for _ in 0..50 {
        raw.send(&craft::route_refresh(16388));
        raw.send(&craft::route_refresh(1));
        raw.hear_prefix();
    }
    pop.assert_unharmed("50 requests");
}
