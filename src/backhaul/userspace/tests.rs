//! Two POPs' engines, connected by a path that the test is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::arena::Arena;
use super::engine::{Arrival, Engine};
use super::train::Trains;
use crate::backhaul::offload::Offload;
use crate::backhaul::plane::{Endpoint, Name, PeerWanted, Wanted};
use crate::backhaul::tunnel::{Pair, PrivateKey, Reason};

struct Pop {
    engine: Engine,
    trains: Trains,
    arena: Arena,
    address: SocketAddr,
    wanted: Wanted,
    got: Vec<Vec<u8>>,
}

fn key(number: u8) -> PrivateKey {
    PrivateKey::new([number; 32])
}

fn at(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51_820))
}

fn peer(number: u8, knows: bool) -> (Name, PeerWanted) {
    let endpoint = knows.then(|| Endpoint { address: at(number), turn: 0 });
    let peer = PeerWanted {
        keys: Pair::only(key(number).public()),
        preshared: None,
        allowed: format!("fd00:1:2:{number}0::/60").parse().unwrap(),
        keepalive: None,
        endpoint,
        mtu: 1420,
    };
    (Name::from(format!("pop{number}")), peer)
}

fn pop(number: u8, peers: &[(Name, PeerWanted)], now: Instant) -> Pop {
    let node = format!("fd00:1:2:{number}0::1").parse().unwrap();
    let mut engine = Engine::new(Pair::only(key(number)), node, now);
    let wanted = Wanted { peers: peers.iter().cloned().collect() };
    engine.set(&wanted, || 77, now);
    let (trains, arena) = (Trains::new(64), Arena::default());
    Pop { engine, trains, arena, address: at(number), wanted, got: Vec::new() }
}

fn packet(from: u8, to: u8, length: usize) -> Vec<u8> {
    let mut packet = vec![0; length.max(48)];
    let inside = (packet.len() - 40) as u16;
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&inside.to_be_bytes());
    (packet[6], packet[7]) = (59, 64);
    for (at, number) in [(8, from), (24, to)] {
        let address: std::net::Ipv6Addr = format!("fd00:1:2:{number}0::1").parse().unwrap();
        packet[at..at + 16].copy_from_slice(&address.octets());
    }
    packet
}

impl Pop {
    fn send(&mut self, packet: &[u8]) {
        self.engine.outbound(Offload::default(), &mut packet.to_vec(), &mut self.trains, &mut self.arena);
        self.take();
    }

    fn take(&mut self) {
        let (octets, packets) = self.arena.parts();
        let got = packets.iter().map(|packet| octets[packet.clone()].to_vec());
        self.got.extend(got);
        self.arena.clear();
    }

    fn leaving(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        for train in self.trains.list() {
            let octets = self.trains.octets(train.octets.clone());
            out.extend(octets.chunks(train.size).map(|datagram| (train.way.to, datagram.to_vec())));
        }
        let count = self.trains.list().len();
        self.trains.sent(count);
        out
    }
}

/// Carries until nothing moves any more.
fn settle(pops: &mut [Pop]) {
    for _ in 0..20 {
        for from in 0..pops.len() {
            let source = pops[from].address;
            for (to, datagram) in pops[from].leaving() {
                let arrival = Arrival { from: source, local: Some(to.ip()), ecn: 0 };
                if let Some(pop) = pops.iter_mut().find(|pop| pop.address == to) {
                    pop.engine.inbound(&datagram, arrival, &mut pop.arena, &mut pop.trains);
                    pop.take();
                }
            }
        }
    }
}

#[test]
fn packets_of_every_length_arrive_and_the_answer_finds_its_way() {
    let now = Instant::now();
    // The second does not know where the first is.
    let mut pops = [pop(1, &[peer(2, true)], now), pop(2, &[peer(1, false)], now)];
    let sent: Vec<Vec<u8>> = (48..1421).map(|length| packet(1, 2, length)).collect();
    for packet in &sent {
        pops[0].send(packet);
        settle(&mut pops);
    }
    assert_eq!(pops[1].got, sent);
    pops[1].send(&packet(2, 1, 100));
    settle(&mut pops);
    assert_eq!(pops[0].got, [packet(2, 1, 100)]);
    let report = pops[1].engine.report();
    assert_eq!(report.peers["pop1"].endpoint, Some(at(1)));
    assert_eq!(report.peers["pop1"].rx_packets, sent.len() as u64);
}

#[test]
fn no_peer_uses_the_source_of_another() {
    let now = Instant::now();
    let mut pops = [
        pop(1, &[peer(2, true)], now),
        pop(2, &[peer(1, true), peer(3, true)], now),
        pop(3, &[peer(2, true)], now),
    ];
    pops[0].send(&packet(1, 2, 64));
    settle(&mut pops);
    pops[0].send(&packet(3, 2, 64));
    pops[0].send(&packet(2, 2, 64));
    settle(&mut pops);
    assert_eq!(pops[1].got.len(), 1);
    assert_eq!(pops[1].engine.report().peers["pop1"].drops.of(Reason::ForeignSource), 2);
}

#[test]
fn a_change_of_one_peer_leaves_the_others_sessions_alone() {
    let now = Instant::now();
    let mut pops = [
        pop(1, &[peer(2, true), peer(3, true)], now),
        pop(2, &[peer(1, true)], now),
        pop(3, &[peer(1, true)], now),
    ];
    pops[0].send(&packet(1, 2, 64));
    pops[0].send(&packet(1, 3, 64));
    settle(&mut pops);
    let made = pops[1].engine.report().peers["pop1"].last_handshake;
    let mut wanted = pops[0].wanted.clone();
    wanted.peers.remove("pop3");
    let moved = wanted.peers.get_mut("pop2").unwrap();
    moved.mtu = 1300;
    pops[0].engine.set(&wanted, || 78, now);
    pops[0].send(&packet(1, 2, 64));
    pops[0].send(&packet(1, 3, 64));
    settle(&mut pops);
    assert_eq!((pops[1].got.len(), pops[2].got.len()), (2, 1));
    assert_eq!(pops[1].engine.report().peers["pop1"].last_handshake, made);
    let answer = &pops[0].got[0];
    assert_eq!((answer[6], answer[40]), (58, 1), "told that there is no way to the third");
}

#[test]
fn what_is_too_long_is_answered_with_the_mtu() {
    let now = Instant::now();
    let mut pops = [pop(1, &[peer(2, true)], now), pop(2, &[peer(1, true)], now)];
    pops[0].send(&packet(1, 2, 1421));
    settle(&mut pops);
    assert!(pops[1].got.is_empty());
    let answer = &pops[0].got[0];
    assert_eq!((answer[6], answer[40], &answer[44..48]), (58, 2, &1420u32.to_be_bytes()[..]));
    assert_eq!(pops[0].engine.report().too_big, 1);
}

#[test]
fn a_new_endpoint_wins_over_what_was_learnt_and_roaming_over_that() {
    let now = Instant::now();
    let mut pops = [pop(1, &[peer(2, true)], now), pop(2, &[peer(1, false)], now)];
    pops[0].send(&packet(1, 2, 64));
    settle(&mut pops);
    pops[0].address = at(9);
    pops[0].send(&packet(1, 2, 64));
    settle(&mut pops);
    let endpoint = |pop: &Pop| pop.engine.report().peers["pop1"].endpoint;
    assert_eq!(endpoint(&pops[1]), Some(at(9)), "it moved");
    let mut wanted = pops[1].wanted.clone();
    wanted.peers.get_mut("pop1").unwrap().endpoint = Some(Endpoint { address: at(1), turn: 1 });
    pops[1].engine.set(&wanted, || 79, now);
    assert_eq!(endpoint(&pops[1]), Some(at(1)));
    pops[1].engine.tick(now + Duration::from_millis(100), &mut pops[1].trains);
    assert_eq!(endpoint(&pops[1]), Some(at(1)));
}
