//! What a neighbor must not send, and the answer of RFC 4271 §6 and RFC 7606 to each of it.

use std::net::Ipv4Addr;

use netlab::collector::craft;

use super::raw_speaker::{ASN, good_open};

/// All of them, each for a neighbor of its own.
pub fn offences() -> Vec<Case> {
    [header_cases(), open_cases(), order_cases(), update_cases()].into_iter().flatten().collect()
}

/// How far the session is when the offence comes; named by the router's state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum In {
    OpenSent,
    OpenConfirm,
    Established,
}
use In::{Established, OpenConfirm, OpenSent};

/// What is right.
#[derive(Debug, Clone, Copy)]
pub enum Right {
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

pub struct Case {
    pub name: &'static str,
    pub state: In,
    pub octets: Vec<u8>,
    pub right: Right,
}

fn case(name: &'static str, state: In, octets: Vec<u8>, right: Right) -> Case {
    Case { name, state, octets, right }
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
        case("a KEEPALIVE of 20", Established, craft::message(4, &[0]), NotifiedWith(1, 2, &[0, 20])),
        case("an UPDATE of 22", Established, craft::message(2, &[0, 0, 0]), NotifiedWith(1, 2, &[0, 22])),
        case("an OPEN of 28", OpenSent, craft::message(1, &[4; 9]), NotifiedWith(1, 2, &[0, 28])),
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
        // RFC 4271 §6.3, which RFC 7606 §3 does not revise.
        case(
            "an unknown well-known attribute",
            Established,
            update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 77, 1, 0]]),
            NotifiedWith(3, 2, &[0x40, 77, 1, 0]),
        ),
        case(
            "an unknown optional attribute",
            Established,
            update(&[ORIGIN, AS_PATH, NEXT_HOP, &[0xc0, 77, 1, 0]]),
            Stays,
        ),
    ]
}
