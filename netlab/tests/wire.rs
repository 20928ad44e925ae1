//! The wire reader against another codec, and against every way TCP may deliver the same bytes.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlab::bgp_stream::segment::Segment;
use netlab::bgp_stream::{Event, Kind, Streams, Timeline};
use netlab::collector::craft;
use netlab::moment::Moment;
use proptest::prelude::*;
use rustbgpd_wire as codec;

fn speaker() -> SocketAddr {
    "10.0.0.1:40000".parse().unwrap()
}

fn router() -> SocketAddr {
    "[2001:db8::2]:179".parse().unwrap()
}

/// A segment of the speaker's direction.
fn segment(seq: u32, payload: &[u8]) -> Segment<'_> {
    Segment { from: speaker(), to: router(), seq, syn: false, ack: true, fin: false, rst: false, payload }
}

fn prefix() -> impl Strategy<Value = IpNetwork> {
    let four = (any::<u32>(), 0u8..=32).prop_map(|(bits, len)| (IpAddr::from(Ipv4Addr::from(bits)), len));
    let six = (any::<u128>(), 0u8..=128).prop_map(|(bits, len)| (IpAddr::from(Ipv6Addr::from(bits)), len));
    prop_oneof![four, six].prop_map(|(address, len)| {
        let network = IpNetwork::new(address, len).unwrap().network();
        IpNetwork::new(network, len).unwrap()
    })
}

/// One message of a session, of every kind.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let next_hop = |prefix: &IpNetwork| match prefix {
        IpNetwork::V4(_) => IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)),
        IpNetwork::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    prop_oneof![
        Just(craft::keepalive()),
        Just(craft::open(4_200_000_000, 9, Ipv4Addr::new(1, 1, 1, 1), &[(1, 1), (2, 1)])),
        Just(craft::route_refresh(2)),
        prefix().prop_map(move |p| craft::announce(&[p], &[64512, 4_200_000_000], next_hop(&p))),
        prefix().prop_map(|p| craft::withdraw(&[p])),
        // All ones inside a message must not pass for a marker.
        prop::collection::vec(Just(0xffu8), 0..60).prop_map(|data| craft::notification(6, 1, &data)),
    ]
}

/// Cuts, repeats and reorders a stream; every piece is delivered at least once.
fn deliver(stream: &[u8], cuts: &[usize], order: &[u32], first: u32) -> Vec<(u32, Vec<u8>)> {
    let mut bounds: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    bounds.extend([0, stream.len()]);
    bounds.sort_unstable();
    let mut pieces = Vec::new();
    for pair in bounds.windows(2) {
        // Every other piece is also sent longer than it need be: overlaps.
        let end = if pieces.len() % 2 == 0 { pair[1] } else { (pair[1] + 30).min(stream.len()) };
        pieces.push((first.wrapping_add(pair[0] as u32), stream[pair[0]..end].to_vec()));
    }
    let repeated: Vec<_> = pieces.iter().step_by(3).cloned().collect();
    pieces.extend(repeated);
    let mut keyed: Vec<_> = pieces.into_iter().enumerate().collect();
    keyed.sort_by_key(|(n, _)| order[n % order.len()]);
    keyed.into_iter().map(|(_, piece)| piece).collect()
}

fn kinds(events: &[Event]) -> Vec<Kind> {
    events.iter().map(|event| event.kind.clone()).collect()
}

proptest! {
    #[test]
    fn the_same_stream_gives_the_same_events_however_it_is_cut(
        messages in prop::collection::vec(message(), 1..20),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
        order in prop::collection::vec(any::<u32>(), 1..60),
        initial: u32,
    ) {
        let stream = messages.concat();
        let read = |pieces: &[(u32, Vec<u8>)]| {
            let (mut streams, mut events) = (Streams::new(), Vec::new());
            let syn = Segment { syn: true, ack: false, ..segment(initial, &[]) };
            streams.handle_segment(Moment(1), &syn, &mut events);
            for (n, (seq, payload)) in pieces.iter().enumerate() {
                streams.handle_segment(Moment(2 + n as u64), &segment(*seq, payload), &mut events);
            }
            let end = initial.wrapping_add(1).wrapping_add(stream.len() as u32);
            let fin = Segment { fin: true, ..segment(end, &[]) };
            streams.handle_segment(Moment(1_000_000), &fin, &mut events);
            events
        };
        let whole = read(&[(initial.wrapping_add(1), stream.clone())]);
        prop_assert_eq!(whole.len(), messages.len() + 2);
        prop_assert_eq!(&whole[0].kind, &Kind::Connect);
        prop_assert_eq!(&whole[whole.len() - 1].kind, &Kind::Closed { reset: false });
        prop_assert!(!whole.iter().any(|event| matches!(event.kind, Kind::Malformed(_) | Kind::Lost)), "{:?}", whole);
        let cut = read(&deliver(&stream, &cuts, &order, initial.wrapping_add(1)));
        prop_assert_eq!(kinds(&cut), kinds(&whole));
        prop_assert!(cut.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn a_stream_joined_in_the_middle_is_read_from_the_next_message(
        messages in prop::collection::vec(message(), 3..10),
        at: prop::sample::Index,
    ) {
        // Messages whose data are ones could hide the next marker; those are tested above.
        let messages: Vec<_> = messages.into_iter().filter(|message| message[18] != craft::NOTIFICATION).collect();
        prop_assume!(messages.len() >= 3);
        let stream = messages.concat();
        let at = 1 + at.index(messages[0].len());
        let (mut streams, mut events) = (Streams::new(), Vec::new());
        streams.handle_segment(Moment(1), &segment(77, &stream[at..]), &mut events);
        prop_assert_eq!(events.len(), messages.len() - 1);
        prop_assert!(!events.iter().any(|event| matches!(event.kind, Kind::Malformed(_))));
    }

    #[test]
    fn any_segments_are_survived(
        segments in prop::collection::vec((any::<u32>(), 0u8..16, prop::collection::vec(any::<u8>(), 0..80)), 0..60),
    ) {
        let (mut streams, mut events) = (Streams::new(), Vec::new());
        for (n, (seq, flags, payload)) in segments.iter().enumerate() {
            let hostile = Segment {
                syn: flags & 1 != 0, fin: flags & 2 != 0, rst: flags & 4 != 0, ack: flags & 8 != 0,
                ..segment(*seq, payload)
            };
            streams.handle_segment(Moment(n as u64), &hostile, &mut events);
        }
    }

    #[test]
    fn both_codecs_read_the_same_from_an_update(
        prefixes in prop::collection::btree_set(prefix(), 1..40),
        path in prop::collection::vec(1u32.., 1..5),
        med: Option<u32>,
        communities in prop::collection::vec(any::<u32>(), 0..5),
    ) {
        let mut attributes = vec![
            codec::PathAttribute::Origin(codec::Origin::Igp),
            codec::PathAttribute::AsPath(codec::AsPath { segments: vec![codec::AsPathSegment::AsSequence(path.clone())] }),
            codec::PathAttribute::NextHop(Ipv4Addr::new(10, 0, 0, 1)),
        ];
        attributes.extend(med.map(codec::PathAttribute::Med));
        if !communities.is_empty() {
            attributes.push(codec::PathAttribute::Communities(communities.clone()));
        }
        let four: Vec<_> = prefixes.iter().filter_map(|prefix| match prefix {
            IpNetwork::V4(net) => Some(codec::Ipv4NlriEntry { path_id: 0, prefix: codec::Ipv4Prefix::new(net.network(), net.prefix()) }),
            IpNetwork::V6(_) => None,
        }).collect();
        let update = codec::UpdateMessage::build(&four, &four, &attributes, true, false, codec::Ipv4UnicastMode::Body);
        let bytes = codec::encode_message(&codec::Message::Update(update)).unwrap();
        let Kind::Update(read) = netlab::bgp_stream::message::decode(&bytes, true) else { panic!("no update") };
        let wanted: Vec<_> = prefixes.iter().copied().filter(IpNetwork::is_ipv4).collect();
        prop_assert_eq!(&read.announced, &wanted);
        prop_assert_eq!(&read.withdrawn, &wanted);
        prop_assert_eq!(&read.attributes.as_path, &path);
        prop_assert_eq!(read.attributes.med, med);
        let text: Vec<_> = communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff)).collect();
        prop_assert_eq!(&read.attributes.communities, &text);
    }

    #[test]
    fn the_other_codec_accepts_what_is_crafted(prefixes in prop::collection::btree_set(prefix(), 1..600)) {
        for family_four in [true, false] {
            let some: Vec<_> = prefixes.iter().copied().filter(|prefix| prefix.is_ipv4() == family_four).collect();
            let next_hop = if family_four { IpAddr::from([10, 0, 0, 1]) } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
            let mut bytes = bytes::Bytes::from(craft::announce(&some, &[64512], next_hop));
            let mut found = 0;
            while !bytes.is_empty() {
                let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
                let mut one = bytes.split_to(length);
                let Ok(codec::Message::Update(update)) = codec::decode_message(&mut one, 4096) else { panic!("refused") };
                let parsed = update.parse(true, false, &[]).unwrap();
                found += parsed.announced.len();
                for attribute in &parsed.attributes {
                    if let codec::PathAttribute::MpReachNlri(reach) = attribute {
                        found += reach.announced.len();
                    }
                }
            }
            prop_assert_eq!(found, some.len());
        }
    }
}

#[test]
fn a_hole_that_is_never_filled_is_given_up_and_said() {
    let (mut streams, mut events) = (Streams::new(), Vec::new());
    let keepalive = craft::keepalive();
    let syn = Segment { syn: true, ack: false, ..segment(99, &[]) };
    streams.handle_segment(Moment(0), &syn, &mut events);
    // The capture missed 100..119.
    streams.handle_segment(Moment(1), &segment(119, &keepalive), &mut events);
    assert_eq!(kinds(&events), [Kind::Connect]);
    let later = Moment(1) + Duration::from_secs(5);
    streams.handle_segment(later, &segment(138, &keepalive), &mut events);
    assert_eq!(kinds(&events), [Kind::Connect, Kind::Lost, Kind::Keepalive, Kind::Keepalive]);
    assert_eq!(events[2].at, later);
}

#[test]
fn a_reset_is_told_once_and_the_same_ports_start_afresh() {
    let (mut streams, mut events) = (Streams::new(), Vec::new());
    let syn = |seq| Segment { syn: true, ack: false, ..segment(seq, &[]) };
    streams.handle_segment(Moment(1), &syn(10), &mut events);
    streams.handle_segment(Moment(2), &syn(10), &mut events); // repeated
    streams.handle_segment(Moment(3), &segment(11, &craft::keepalive()[..10]), &mut events);
    let reset = Segment { rst: true, from: router(), to: speaker(), ..segment(0, &[]) };
    streams.handle_segment(Moment(4), &reset, &mut events);
    streams.handle_segment(Moment(5), &reset, &mut events);
    streams.handle_segment(Moment(6), &syn(9000), &mut events);
    streams.handle_segment(Moment(7), &segment(9001, &craft::keepalive()), &mut events);
    assert_eq!(kinds(&events), [Kind::Connect, Kind::Closed { reset: true }, Kind::Connect, Kind::Keepalive]);
    assert_eq!(events[1].from, router().ip());
}

#[test]
fn a_session_without_four_octet_numbers_is_read_as_such() {
    let (mut streams, mut events) = (Streams::new(), Vec::new());
    // The router's OPEN offers nothing: AS 64500, hold 9, no parameters.
    let open = craft::message(craft::OPEN, &[4, 0xfb, 0xf4, 0, 9, 10, 0, 0, 2, 0]);
    let answer = Segment { from: router(), to: speaker(), ..segment(500, &open) };
    streams.handle_segment(Moment(1), &answer, &mut events);
    let ours = craft::open(64512, 9, Ipv4Addr::new(1, 1, 1, 1), &[(1, 1)]);
    let update = craft::update(&[], &craft::attribute(0x40, 2, &[2, 1, 0xfc, 0x00]), &[24, 198, 51, 100]);
    streams.handle_segment(Moment(2), &segment(900, &[ours, update].concat()), &mut events);
    assert_eq!(events[2].update().unwrap().attributes.as_path, [64512]);
}

#[test]
fn the_timeline_answers_by_sender_and_time() {
    let target: IpNetwork = "198.51.100.0/24".parse().unwrap();
    let next_hop = IpAddr::from([10, 0, 0, 1]);
    let (mut streams, mut events) = (Streams::new(), Vec::new());
    let mut seq = BTreeMap::from([(speaker(), 1u32), (router(), 1u32)]);
    let mut say = |at, from: SocketAddr, to, bytes: Vec<u8>| {
        let seq = seq.get_mut(&from).unwrap();
        streams.handle_segment(Moment(at), &Segment { from, to, ..segment(*seq, &bytes) }, &mut events);
        *seq += bytes.len() as u32;
    };
    say(10, speaker(), router(), craft::announce(&[target], &[1], next_hop));
    say(20, router(), speaker(), craft::announce(&[target], &[2], next_hop));
    say(30, speaker(), router(), craft::withdraw(&[target]));
    say(40, speaker(), router(), craft::announce(&[target], &[1], next_hop));
    say(50, speaker(), router(), craft::notification(6, 4, &[]));
    let timeline = Timeline::new(&events);
    let (from, zero) = (Some(speaker().ip()), Moment::ZERO);
    assert_eq!(timeline.first_announce(target, from, zero).unwrap().at, Moment(10));
    assert_eq!(timeline.first_announce(target, from, Moment(11)).unwrap().at, Moment(40));
    assert_eq!(timeline.first_announce(target, None, Moment(11)).unwrap().at, Moment(20));
    assert_eq!(timeline.first_withdraw(target, from, zero).unwrap().at, Moment(30));
    assert!(timeline.first_withdraw(target, Some(router().ip()), zero).is_none());
    assert_eq!(timeline.first_loss(target, from, Moment(31)).unwrap().at, Moment(50));
    assert_eq!(timeline.updates(target, from, zero, Moment(40)), 2);
    assert_eq!(timeline.updates(target, None, zero, Moment::MAX), 4);
}
