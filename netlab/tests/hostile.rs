//! A hostile neighbor against the real router: each offence gets the answer of the RFCs, and the good neighbor notices nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "support/raw_speaker.rs"]
mod raw_speaker;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use netlab::collector::craft;
use netlab::sys::namespace::is_root;
use raw_speaker::{ASN, Heard, LONG, Pop, Raw, good_open, hostile, prefix};

/// Whether the test can run here; says so loudly if not.
fn is_skipped(test: &str) -> bool {
    if !is_root() {
        println!("SKIPPED {test}: it needs root for network namespaces");
    }
    !is_root()
}

/// How far the session is when the offence comes; named by the router's state.
#[derive(Debug, Clone, Copy, PartialEq)]
enum In {
    OpenSent,
    OpenConfirm,
    Established,
}
use In::{Established, OpenConfirm, OpenSent};

/// What is right.
#[derive(Debug, Clone, Copy)]
enum Right {
    /// This NOTIFICATION, and the end.
    Notified(u8, u8),
    /// The same, with these data.
    NotifiedWith(u8, u8, &'static [u8]),
    /// The end without a word.
    Closed,
    /// The session stays and counts nothing as withdrawn by mistake.
    Stays,
    /// The session stays and the UPDATE counts as a withdrawal (RFC 7606 §2).
    TreatedAsWithdraw,
}
use Right::{Closed, Notified, NotifiedWith, Stays, TreatedAsWithdraw};

struct Case {
    name: &'static str,
    state: In,
    octets: Vec<u8>,
    right: Right,
    /// What the router is known to answer instead. Mended, the test fails until the mark is taken off.
    deviation: Option<Right>,
}

fn case(name: &'static str, state: In, octets: Vec<u8>, right: Right) -> Case {
    Case { name, state, octets, right, deviation: None }
}

impl Case {
    fn but_answers(self, deviation: Right) -> Self {
        Self { deviation: Some(deviation), ..self }
    }
}

const MARKER: [u8; 16] = [0xff; 16];

fn open_with(version: u8, asn: u16, hold_s: u16, id: Ipv4Addr, parameters: &[u8]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(asn.to_be_bytes());
    body.extend(hold_s.to_be_bytes());
    body.extend(id.octets());
    body.extend(parameters);
    craft::message(craft::OPEN, &body)
}

fn update(attributes: &[&[u8]]) -> Vec<u8> {
    craft::update(&[], &attributes.concat(), &[24, 203, 0, 113])
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
/// AS 64666, four octets.
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x9a];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 1, 1];

/// RFC 4271 §6.1.
fn header_cases() -> Vec<Case> {
    let mut wrong_marker = MARKER;
    wrong_marker[7] = 0xfe;
    let header = craft::header;
    vec![
        case("a wrong marker", OpenSent, header(wrong_marker, 19, 4, &[]), Notified(1, 1)),
        case("a wrong marker later", Established, header(wrong_marker, 19, 4, &[]), Notified(1, 1)),
        case("length 0", OpenSent, header(MARKER, 0, 4, &[]), NotifiedWith(1, 2, &[0, 0])),
        case("length 18", OpenSent, header(MARKER, 18, 4, &[]), NotifiedWith(1, 2, &[0, 18])),
        case("length 4097", Established, header(MARKER, 4097, 2, &[]), NotifiedWith(1, 2, &[0x10, 1])),
        case("length 65535", OpenSent, header(MARKER, 65535, 1, &[]), NotifiedWith(1, 2, &[0xff, 0xff])),
        case("type 0", OpenSent, craft::message(0, &[]), NotifiedWith(1, 3, &[0])),
        case("type 9", Established, craft::message(9, &[]), NotifiedWith(1, 3, &[9])),
        case("a KEEPALIVE of 20", Established, craft::message(4, &[0]), NotifiedWith(1, 2, &[0, 20]))
            .but_answers(NotifiedWith(1, 2, &[])),
        case("an UPDATE of 22", Established, craft::message(2, &[0, 0, 0]), NotifiedWith(1, 2, &[0, 22]))
            .but_answers(Notified(3, 1)),
        case("an OPEN of 28", OpenSent, craft::message(1, &[4; 9]), NotifiedWith(1, 2, &[0, 28]))
            .but_answers(Notified(2, 0)),
        // §6.1 names it, although §6.4 gives no answer to what is wrong in a NOTIFICATION.
        case("a NOTIFICATION of 20", Established, craft::message(3, &[6]), NotifiedWith(1, 2, &[0, 20])),
    ]
}

/// RFC 4271 §6.2.
fn open_cases() -> Vec<Case> {
    let asn = ASN as u16;
    let id = Ipv4Addr::new(10, 0, 1, 1);
    let open = |version, asn, hold_s, id| open_with(version, asn, hold_s, id, &[0]);
    vec![
        case("version 3", OpenSent, open(3, asn, 90, id), NotifiedWith(2, 1, &[0, 4])),
        case("hold time 1", OpenSent, open(4, asn, 1, id), Notified(2, 6)),
        case("hold time 2", OpenSent, open(4, asn, 2, id), Notified(2, 6)),
        // RFC 7607 §2.
        case("AS 0", OpenSent, open(4, 0, 90, id), Notified(2, 2)),
        case("another AS", OpenSent, open(4, 64667, 90, id), Notified(2, 2)),
        case("BGP identifier 0", OpenSent, open(4, asn, 90, Ipv4Addr::UNSPECIFIED), Notified(2, 3)),
        case("parameters past the end", OpenSent, open_with(4, asn, 90, id, &[9, 2, 0]), Notified(2, 0)),
        case("an unknown parameter", OpenSent, open_with(4, asn, 90, id, &[3, 77, 1, 0]), Notified(2, 4)),
        case("a second OPEN", Established, good_open(1), Notified(5, 3)),
    ]
}

/// RFC 4271 §6.6 with the subcodes of RFC 6608 §3.
fn order_cases() -> Vec<Case> {
    let route = update(&[ORIGIN, AS_PATH, NEXT_HOP]);
    vec![
        case("a KEEPALIVE before OPEN", OpenSent, craft::keepalive(), Notified(5, 1)),
        case("an UPDATE before OPEN", OpenSent, route.clone(), Notified(5, 1)),
        case("a ROUTE-REFRESH before OPEN", OpenSent, craft::route_refresh(1), Notified(5, 1)),
        case("an UPDATE before KEEPALIVE", OpenConfirm, route.clone(), Notified(5, 2)),
        case("a NOTIFICATION before OPEN", OpenSent, craft::notification(2, 2, &[]), Closed),
        case("a NOTIFICATION", Established, craft::notification(6, 4, &[]), Closed),
        case("an unknown NOTIFICATION", Established, craft::notification(200, 200, &[1; 50]), Closed),
        case("a ROUTE-REFRESH of an unknown family", Established, craft::route_refresh(16388), Stays),
        case("a route", Established, route, Stays),
    ]
}

/// RFC 4271 §6.3 as changed by RFC 7606.
fn update_cases() -> Vec<Case> {
    let reach = |value: &[u8]| {
        craft::update(&[], &[ORIGIN, AS_PATH, &craft::attribute(0x80, 14, value)].concat(), &[])
    };
    let nlri = |nlri: &[u8]| craft::update(&[], &[ORIGIN, AS_PATH, NEXT_HOP].concat(), nlri);
    // Withdrawn routes of 200 octets in a message that ends after them.
    let past_the_end = craft::message(2, &[0, 200, 0, 0]);
    let attributes_past_the_end = craft::message(2, &[0, 0, 0, 200, 0x40, 1]);
    vec![
        case("withdrawn routes past the end", Established, past_the_end, Notified(3, 1)),
        case("attributes past the end", Established, attributes_past_the_end, Notified(3, 1)),
        // RFC 7606 §5.3.
        case("prefix length 33", Established, nlri(&[33, 203, 0, 113, 0, 0]), Notified(3, 10)),
        case("a prefix past the end", Established, nlri(&[24, 203]), Notified(3, 10)),
        // RFC 7606 §7.11: a reset. Its subcode is RFC 4760 §7's, or RFC 4271 §6.3's where the length is impossible.
        case("MP_REACH_NLRI of one octet", Established, reach(&[0]), NotifiedWith(3, 5, &[0x80, 14, 1, 0])),
        case("MP_REACH_NLRI's next hop past the end", Established, reach(&[0, 2, 1, 200, 0]), Notified(3, 9)),
        // RFC 7606 §3 (g).
        case(
            "MP_UNREACH_NLRI twice",
            Established,
            craft::update(&[], &[0x80, 15, 3, 0, 2, 1].repeat(2), &[]),
            Notified(3, 1),
        ),
        case("ORIGIN twice", Established, update(&[ORIGIN, ORIGIN, AS_PATH, NEXT_HOP]), Stays),
        // RFC 7606 §3 (d).
        case("no ORIGIN", Established, update(&[AS_PATH, NEXT_HOP]), TreatedAsWithdraw),
        case("no AS_PATH", Established, update(&[ORIGIN, NEXT_HOP]), TreatedAsWithdraw),
        case("no NEXT_HOP", Established, update(&[ORIGIN, AS_PATH]), TreatedAsWithdraw),
        // RFC 7606 §7.1 to §7.3.
        case("ORIGIN 3", Established, update(&[&[0x40, 1, 1, 3], AS_PATH, NEXT_HOP]), TreatedAsWithdraw),
        case(
            "ORIGIN of two",
            Established,
            update(&[&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP]),
            TreatedAsWithdraw,
        ),
        case(
            "an AS_PATH segment past its end",
            Established,
            update(&[ORIGIN, &[0x40, 2, 6, 2, 2, 0, 0, 0xfc, 0x9a], NEXT_HOP]),
            TreatedAsWithdraw,
        ),
        case(
            "an AS_PATH segment of type 9",
            Established,
            update(&[ORIGIN, &[0x40, 2, 6, 9, 1, 0, 0, 0xfc, 0x9a], NEXT_HOP]),
            TreatedAsWithdraw,
        ),
        case(
            "an empty AS_PATH segment",
            Established,
            update(&[ORIGIN, &[0x40, 2, 2, 2, 0], NEXT_HOP]),
            TreatedAsWithdraw,
        ),
        case(
            "NEXT_HOP of three",
            Established,
            update(&[ORIGIN, AS_PATH, &[0x40, 3, 3, 10, 0, 1]]),
            TreatedAsWithdraw,
        ),
        case(
            "NEXT_HOP 0.0.0.0",
            Established,
            update(&[ORIGIN, AS_PATH, &[0x40, 3, 4, 0, 0, 0, 0]]),
            TreatedAsWithdraw,
        ),
        // RFC 7606 §3 (c).
        case(
            "ORIGIN with flags of an optional one",
            Established,
            update(&[&[0xc0, 1, 1, 0], AS_PATH, NEXT_HOP]),
            TreatedAsWithdraw,
        ),
        // RFC 7606 §4.
        case(
            "an attribute past the attributes' end",
            Established,
            update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 200, 0]]),
            TreatedAsWithdraw,
        ),
        case(
            "MED of three",
            Established,
            update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x80, 4, 3, 0, 0, 0]]),
            TreatedAsWithdraw,
        ),
        case(
            "communities of five",
            Established,
            update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 8, 5, 0, 0, 0, 0, 0]]),
            TreatedAsWithdraw,
        ),
        // RFC 4271 §6.3: an unrecognized well-known attribute has no place in RFC 7606's list of changes.
        case(
            "an unknown well-known attribute",
            Established,
            update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 77, 1, 0]]),
            Notified(3, 2),
        )
        .but_answers(TreatedAsWithdraw),
        case(
            "an unknown optional attribute",
            Established,
            update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 77, 1, 0]]),
            Stays,
        ),
    ]
}

/// What the router did, in the words of the table.
fn answer(pop: &Pop, number: u8, raw: &mut Raw, right: Right) -> Result<(), String> {
    let withdrawals = || pop.status_of(number)["treated_as_withdraw"].as_u64();
    match right {
        Stays | TreatedAsWithdraw => {
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
            let wanted = u64::from(matches!(right, TreatedAsWithdraw));
            if wanted == 1 {
                pop.wait_status_of(number, "a withdrawal counted", |neighbor| neighbor["updates_in"] == 1);
            }
            match withdrawals() {
                Some(found) if found == wanted => Ok(()),
                found => Err(format!("the session stays, treated_as_withdraw is {found:?}")),
            }
        }
        Closed | Notified(..) | NotifiedWith(..) => {
            let said = raw.hear_end().map_err(|heard| format!("not closed: {heard:?}"))?;
            let as_wanted = match (&said, right) {
                (None, Closed) => true,
                (Some((code, subcode, _)), Notified(c, s)) => (*code, *subcode) == (c, s),
                (Some((code, subcode, data)), NotifiedWith(c, s, d)) => {
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
    let cases = [header_cases(), open_cases(), order_cases(), update_cases()];
    let cases: Vec<_> = cases.into_iter().flatten().collect();
    let mut pop = Pop::new(u8::try_from(cases.len()).unwrap(), "");
    let mut wrong = Vec::new();
    for (number, case) in (1..).zip(&cases) {
        let mut raw = pop.connect(number);
        match case.state {
            OpenSent => raw.hear_open(),
            OpenConfirm => raw.open(number),
            Established => raw.establish(number),
        }
        raw.send(&case.octets);
        let expected = case.deviation.unwrap_or(case.right);
        if let Err(found) = answer(&pop, number, &mut raw, expected) {
            wrong.push(format!(
                "{} in {:?}: expected {expected:?}, found {found}; sent {:02x?}",
                case.name, case.state, case.octets
            ));
        } else if case.deviation.is_some() {
            println!("KNOWN DEVIATION {}: {expected:?} instead of {:?}", case.name, case.right);
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
