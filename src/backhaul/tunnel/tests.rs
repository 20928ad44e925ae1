//! Two tunnels against each other.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::backhaul::limit::Limits;

mod rotation;
mod speed;

pub(super) fn key(n: u8) -> PrivateKey {
    PrivateKey::new([n; 32])
}

pub(super) fn tunnel(ours: Pair<PrivateKey>, theirs: Pair<PublicKey>, random: u32, now: Instant) -> Tunnel {
    let index = Indexes::default().add(random, ()).unwrap();
    Tunnel::new(TunnelConfig { ours, theirs, preshared: None, keepalive: Some(25), index, mtu: 1420 }, now)
}

pub(super) fn two(now: Instant) -> (Tunnel, Tunnel) {
    let (a, b) = (key(1), key(2));
    let (pa, pb) = (a.public(), b.public());
    (tunnel(Pair::only(a), Pair::only(pb), 77, now), tunnel(Pair::only(b), Pair::only(pa), 99, now))
}

pub(super) fn packet(length: usize) -> Vec<u8> {
    let mut packet = vec![7; length];
    if length >= 20 {
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
    }
    packet
}

pub(super) fn from() -> Option<SocketAddr> {
    Some("192.0.2.1:51820".parse().unwrap())
}

/// Gives a datagram to `to`, and its replies back, until there are no more. Returns packets that came out at `to`.
pub(super) fn deliver(datagram: &[u8], to: &mut Tunnel, back: &mut Tunnel) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut ways = vec![(datagram.to_vec(), true)];
    let mut out = vec![0; 70_000];
    while let Some((datagram, there)) = ways.pop() {
        let end = if there { &mut *to } else { &mut *back };
        let mut next = datagram;
        loop {
            match end.open(&next, from(), &mut out, |_| true) {
                Opened::Packet(packet) if there => packets.push(packet.to_vec()),
                Opened::Reply(reply) => ways.insert(0, (reply.to_vec(), !there)),
                _ => {}
            }
            if !end.is_waiting() {
                break;
            }
            next = Vec::new();
        }
    }
    packets
}

pub(super) fn join(a: &mut Tunnel, b: &mut Tunnel, now: Instant) {
    let mut out = vec![0; 2048];
    for _ in 0..8 {
        while let Some(datagram) = a.tick(now, &mut out).map(<[u8]>::to_vec) {
            deliver(&datagram, b, a);
        }
    }
}

pub(super) fn sealed(tunnel: &mut Tunnel, packet: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 70_000];
    match tunnel.seal(packet, &mut out) {
        Sealed::Data(datagram) => datagram.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn up() -> (Tunnel, Tunnel) {
    let now = Instant::now();
    let (mut a, mut b) = two(now);
    join(&mut a, &mut b, now);
    assert!(a.is_up() && b.is_up());
    (a, b)
}

#[test]
fn every_length_arrives_whole_and_padded() {
    let (mut a, mut b) = up();
    let mut out = vec![0; 70_000];
    // Every length up to 2,000, then every 97th: octets are copied the same way from there on.
    for length in (20..2000).chain((2000..65_519).step_by(97)).chain([65_519]) {
        let packet = packet(length);
        let datagram = sealed(&mut a, &packet);
        assert!(
            (datagram.len() - OVERHEAD).is_multiple_of(16) || datagram.len() - OVERHEAD == length.max(1420),
            "{length}"
        );
        assert_eq!(b.open(&datagram, from(), &mut out, |_| true), Opened::Packet(&packet), "{length}");
    }
    for length in 1..20 {
        let datagram = sealed(&mut a, &packet(length));
        let refused = b.open(&datagram, from(), &mut out, |_| true);
        assert_eq!(refused, Opened::Refused(Reason::BadPacket), "{length}");
    }
    assert_eq!(a.seal(&[], &mut out), Sealed::Dropped(Reason::BadPacket));
}

#[test]
fn replayed_is_dropped_and_reordered_is_not() {
    let (mut a, mut b) = up();
    let mut out = vec![0; 2048];
    let sent: Vec<Vec<u8>> = (0..1000).map(|_| sealed(&mut a, &packet(64))).collect();
    let came = |b: &mut Tunnel, datagram: &[u8], out: &mut [u8]| {
        matches!(b.open(datagram, from(), out, |_| true), Opened::Packet(_))
    };
    assert!(sent.iter().rev().all(|datagram| came(&mut b, datagram, &mut out)));
    assert!(!sent.iter().any(|datagram| came(&mut b, datagram, &mut out)));
    assert_eq!(b.counters().drops.of(Reason::Replayed), 1000);
    let late = sealed(&mut a, &packet(64));
    for _ in 0..1100 {
        let datagram = sealed(&mut a, &packet(64));
        came(&mut b, &datagram, &mut out);
    }
    assert!(!came(&mut b, &late, &mut out));
}

#[test]
fn what_is_refused_and_who_may_move_the_endpoint() {
    let (mut a, mut b) = up();
    let mut out = vec![0; 2048];
    let elsewhere: Option<SocketAddr> = Some("203.0.113.9:9".parse().unwrap());
    let good = sealed(&mut a, &packet(64));
    let with = |at: usize, octet: u8| {
        let mut datagram = good.clone();
        datagram[at] ^= octet;
        datagram
    };
    let table = [
        ("type", with(0, 8), Reason::Malformed),
        ("reserved", with(1, 1), Reason::Malformed),
        ("slot", with(5, 1), Reason::UnknownIndex),
        ("session", with(4, 1), Reason::UnknownIndex),
        ("counter", with(8, 64), Reason::NotAuthentic),
        ("last counter", [&good[..8], &[0xff; 8], &good[16..]].concat(), Reason::Replayed),
        ("tag", with(good.len() - 1, 1), Reason::NotAuthentic),
        ("short", good[..31].to_vec(), Reason::Malformed),
    ];
    for (name, datagram, reason) in table {
        let opened = b.open(&datagram, elsewhere, &mut out, |_| true);
        assert_eq!(opened, Opened::Refused(reason), "{name}");
        assert_eq!(b.endpoint(), from(), "{name}");
    }
    assert_eq!(b.open(&good, elsewhere, &mut out[..90], |_| true), Opened::Refused(Reason::Oversize));
    let mine = |source: IpAddr| source != IpAddr::from([10, 0, 0, 1]);
    assert_eq!(b.open(&good, elsewhere, &mut out, mine), Opened::Refused(Reason::ForeignSource));
    assert_eq!(b.endpoint(), from());
    let next = sealed(&mut a, &packet(64));
    assert!(matches!(b.open(&next, elsewhere, &mut out, |_| true), Opened::Packet(_)));
    assert_eq!(b.endpoint(), elsewhere);
}

#[test]
fn a_tunnel_tries_for_ever_and_what_waits_arrives() {
    let now = Instant::now();
    let (mut a, mut b) = two(now);
    let mut out = vec![0; 2048];
    let mut last = now;
    for second in 0..1000 {
        let at = now + Duration::from_secs(second);
        while a.tick(at, &mut out).is_some() {
            last = at;
        }
        assert!(at - last <= Duration::from_secs(5), "silent at {second} s");
    }
    for n in 0..300usize {
        assert!(!matches!(a.seal(&packet(100 + n), &mut out), Sealed::Data(_)));
    }
    assert_eq!(a.counters().drops.of(Reason::QueueFull), 44);
    let healed = now + Duration::from_secs(1006);
    let mut came = 0;
    while let Some(datagram) = a.tick(healed, &mut out).map(<[u8]>::to_vec) {
        came += deliver(&datagram, &mut b, &mut a).len();
    }
    assert!(a.is_up() && b.is_up());
    assert_eq!(came, 256);
}

#[test]
fn a_flood_at_the_door_costs_a_live_peer_nothing() {
    let now = Instant::now();
    let (mut a, mut b) = two(now);
    let ours = Pair::only(key(2));
    let mut door = Door::new(&ours, Limits::default(), now);
    let mut out = vec![0; 2048];
    let peer = from().unwrap();
    let mut forger = tunnel(Pair::only(key(66)), Pair::only(key(2).public()), 5, now);
    let forged = forger.tick(now, &mut out).unwrap().to_vec();
    let first = a.tick(now, &mut out).unwrap().to_vec();
    let known = |address: IpAddr| address == peer.ip();
    let sorted = door.sort(&first, peer, known, now, &mut out);
    assert_eq!(sorted, Sorted::Initiation(key(1).public()));
    deliver(&first, &mut b, &mut a);
    let mut replies = 0;
    for n in 0..1000u32 {
        // A third of them wears the peer's own address.
        let source =
            if n % 3 == 0 { peer } else { (IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 9).into() };
        match door.sort(&forged, source, known, now, &mut out) {
            Sorted::Reply(reply) => replies += usize::from(reply.len() <= forged.len()),
            Sorted::Initiation(public) => assert_eq!(public, key(66).public()),
            other => panic!("{other:?}"),
        }
        let data = sealed(&mut a, &packet(64));
        assert!(matches!(door.sort(&data, peer, known, now, &mut out), Sorted::Receiver(_)));
        assert_eq!(deliver(&data, &mut b, &mut a).len(), 1);
    }
    assert!(replies > 800, "{replies}");
    // Under load a new handshake of the peer takes one cookie.
    let mut again = tunnel(Pair::only(key(1)), Pair::only(key(2).public()), 6, now);
    let first = again.tick(now, &mut out).unwrap().to_vec();
    let Sorted::Reply(cookie) = door.sort(&first, peer, known, now, &mut out) else { panic!("no cookie") };
    let cookie = cookie.to_vec();
    assert_eq!(again.open(&cookie, from(), &mut out, |_| true), Opened::Nothing);
    let second = again.tick(now + Duration::from_millis(250), &mut out).unwrap().to_vec();
    assert_eq!(door.sort(&second, peer, known, now, &mut out), Sorted::Initiation(key(1).public()));
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(mut octets in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..6, cut in any::<bool>()) {
        let now = Instant::now();
        let (_, mut b) = two(now);
        let mut door = Door::new(&Pair::only(key(2)), Limits::default(), now);
        if octets.len() > 8 {
            octets[..8].copy_from_slice(&[kind, 0, 0, 0, 1, 0, 99 << 2, 0]);
        }
        if cut {
            octets.resize(match kind { 1 => 148, 2 => 92, 3 => 64, _ => octets.len() }, 0);
        }
        let mut out = [0; 512];
        door.sort(&octets, from().unwrap(), |_| false, now, &mut out);
        b.open(&octets, from(), &mut out, |_| true);
        b.open(&octets, from(), &mut out[..20], |_| true);
    }
}
