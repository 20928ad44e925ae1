//! Two real peers, a pipe between them, and virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::bgp::origin::{AllowList, Route};
use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::{Attributes, Community, Family, NextHop};

/// One TCP connection: octets under way in both directions, or its end.
struct Pipe {
    dialler: usize,
    to: [VecDeque<Vec<u8>>; 2],
    /// Who will write nothing more.
    ended: [bool; 2],
    closed: [bool; 2],
}

struct Net {
    now: Instant,
    peers: [Peer; 2],
    /// Dials under way: who, and when they arrive.
    dials: Vec<(usize, Instant)>,
    pipes: Vec<Pipe>,
    latency: Duration,
}

fn neighbor(asn: u32, passive: bool) -> Neighbor {
    Neighbor {
        name: format!("as{asn}"),
        address: "192.0.2.1".parse().unwrap(),
        port: 179,
        asn: Asn(asn),
        families: vec![Family::Ipv4, Family::Ipv6],
        source: None,
        passive,
        password: None,
        ttl_security: None,
        multihop: None,
        hold_time: Duration::from_secs(90),
        connect_retry: Duration::from_secs(5),
        max_prefixes: None,
        next_hop: NextHop { ipv4: None, ipv6: Some("2001:db8::1".parse().unwrap()) },
        export: Attributes::default(),
        degrade: Attributes::default(),
        drain: Attributes::default(),
    }
}

fn wanted(revision: u64, prefixes: &[&str], attributes: &Attributes) -> Arc<OriginSet> {
    let prefixes: Vec<_> =
        prefixes.iter().map(|text| AnycastPrefix::new(text.parse().unwrap()).unwrap()).collect();
    let mut set = OriginSet::new(revision, Arc::new(AllowList::new(prefixes.clone())));
    for prefix in prefixes {
        let route = Route { attributes: attributes.clone(), ..Route::default() };
        set.insert(prefix, Arc::new(route)).unwrap();
    }
    Arc::new(set)
}

impl Net {
    fn new(passive: [bool; 2], adapt: impl Fn(usize, &mut Neighbor)) -> Self {
        let now = Instant::now();
        let peer = |me: usize| {
            let mut to = neighbor(65001 + (1 - me) as u32, passive[me]);
            adapt(me, &mut to);
            let local = Local { asn: Asn(65001 + me as u32), id: Ipv4Addr::new(10, 0, 0, me as u8 + 1) };
            Peer::new(local, to, Arc::new(OriginSet::default()), me as u64 + 1, now)
        };
        Self {
            now,
            peers: [peer(0), peer(1)],
            dials: Vec::new(),
            pipes: Vec::new(),
            latency: Duration::from_millis(1),
        }
    }

    fn origin(pipe: &Pipe, side: usize) -> Origin {
        if pipe.dialler == side { Origin::Dialled } else { Origin::Accepted }
    }

    /// What a driver does without waiting, for both, until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let mut moved = false;
            for side in 0..2 {
                self.peers[side].handle_timeout(self.now);
                if self.peers[side].poll_dial(self.now) {
                    self.dials.push((side, self.now + self.latency));
                }
                self.peers[side].poll_updates(self.now);
            }
            let due: Vec<_> =
                self.dials.iter().filter(|(_, at)| *at <= self.now).map(|(who, _)| *who).collect();
            self.dials.retain(|(_, at)| *at > self.now);
            for dialler in due {
                moved = true;
                let address = "192.0.2.10".parse().unwrap();
                let here = self.peers[dialler].handle_connected(Origin::Dialled, address, self.now);
                let there = self.peers[1 - dialler].handle_connected(Origin::Accepted, address, self.now);
                // A new connection in a slot takes the old pipe of that slot away.
                self.pipes.retain(|pipe| pipe.dialler != dialler);
                self.pipes.push(Pipe {
                    dialler,
                    to: Default::default(),
                    ended: [false; 2],
                    closed: [here.is_err(), there.is_err()],
                });
            }
            for pipe in &mut self.pipes {
                for side in 0..2 {
                    let origin = Self::origin(pipe, side);
                    let peer = &mut self.peers[side];
                    let out = peer.out(origin).to_vec();
                    if !out.is_empty() && !pipe.closed[side] {
                        moved = true;
                        peer.handle_written(origin, out.len(), self.now);
                        pipe.to[1 - side].push_back(out);
                    }
                    while !pipe.closed[side]
                        && let Some(close) = peer.poll_close(origin, self.now)
                    {
                        moved = true;
                        match close {
                            Close::Half => pipe.ended[side] = true,
                            Close::Whole => pipe.closed[side] = true,
                        }
                    }
                    while let Some(octets) = pipe.to[side].pop_front() {
                        moved = true;
                        if !pipe.closed[side] {
                            peer.handle_octets(origin, &octets, self.now);
                        }
                    }
                    let no_more = pipe.ended[1 - side] || pipe.closed[1 - side];
                    if no_more && !pipe.closed[side] && pipe.to[side].is_empty() {
                        moved = true;
                        pipe.closed[side] = true;
                        peer.handle_closed(origin, "closed".to_owned(), self.now);
                    }
                }
            }
            self.pipes.retain(|pipe| !(pipe.closed[0] && pipe.closed[1]));
            if !moved {
                return;
            }
        }
        panic!("the peers never come to rest");
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = self.peers.iter().filter_map(Peer::next_deadline);
            let next = next.chain(self.dials.iter().map(|(_, at)| *at)).min();
            match next.filter(|at| *at <= end) {
                Some(at) => self.now = at.max(self.now + Duration::from_micros(1)),
                None => {
                    self.now = end;
                    return self.settle();
                }
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.peers[0].state(self.now), self.peers[1].state(self.now)]
    }

    fn status(&self, side: usize) -> crate::observe::status::NeighborStatus {
        self.peers[side].status(self.now)
    }
}

#[test]
fn sessions_come_up_whoever_dials() {
    for passive in [[false, true], [true, false], [false, false]] {
        let mut net = Net::new(passive, |_, _| ());
        net.run(Duration::from_secs(10));
        assert_eq!(net.states(), [State::Established; 2], "passive: {passive:?}");
        assert_eq!(net.pipes.len(), 1, "one connection is left");
    }
}

#[test]
fn a_session_lives_on_keepalives_alone() {
    let mut net = Net::new([false, true], |_, _| ());
    net.run(Duration::from_secs(3600));
    assert_eq!(net.states(), [State::Established; 2]);
    assert_eq!(net.status(0).established_count, 1);
}

#[test]
fn silence_ends_a_session_and_it_comes_back() {
    let mut net = Net::new([false, true], |_, _| ());
    net.run(Duration::from_secs(10));
    // Octets vanish from now on, as behind a broken link.
    let before = net.now;
    while net.states()[0] == State::Established {
        for peer in &mut net.peers {
            peer.handle_timeout(net.now);
            for origin in Origin::BOTH {
                let lost = peer.out(origin).len();
                peer.handle_written(origin, lost, net.now);
            }
        }
        net.now += Duration::from_millis(100);
        assert!(net.now < before + Duration::from_secs(95), "the hold timer never expires");
    }
    assert!(net.status(0).last_error.unwrap().contains("hold time expired"));
    net.pipes.clear();
    for peer in &mut net.peers {
        for origin in Origin::BOTH {
            peer.handle_closed(origin, "link broken".to_owned(), net.now);
        }
    }
    net.run(Duration::from_secs(60));
    assert_eq!(net.states(), [State::Established; 2]);
}

#[test]
fn routes_arrive_change_and_go_without_a_reset() {
    let mut net = Net::new([false, true], |_, _| ());
    net.run(Duration::from_secs(10));
    let plain = Attributes::default();
    net.peers[0].set_wanted(wanted(1, &["198.51.100.0/24", "2001:db8:1::/48"], &plain));
    net.settle();
    assert_eq!(net.status(1).prefixes_received, 2);
    assert_eq!(net.status(0).announced.len(), 2);
    assert_eq!(net.peers[0].delivery(), Delivery { established: true, written: 1 });

    // The same set again: no octet.
    let updates = net.status(0).updates_out;
    net.peers[0].set_wanted(wanted(2, &["198.51.100.0/24", "2001:db8:1::/48"], &plain));
    net.settle();
    assert_eq!(net.status(0).updates_out, updates);
    assert_eq!(net.peers[0].delivery().written, 2);

    let shut = Attributes { communities: vec![Community::GRACEFUL_SHUTDOWN], ..Attributes::default() };
    net.peers[0].set_wanted(wanted(3, &["198.51.100.0/24"], &shut));
    net.settle();
    assert_eq!(net.status(1).prefixes_withdrawn, 1);
    assert_eq!(net.status(0).announced[0].route.communities, vec!["65535:0"]);

    let mut changed = net.peers[0].neighbor().clone();
    changed.export.med = Some(50);
    net.peers[0].set_neighbor(changed);
    net.settle();
    assert_eq!(net.status(0).announced[0].route.med, Some(50));
    assert_eq!(net.status(0).established_count, 1);
}

#[test]
fn a_wrong_as_number_is_refused_in_words() {
    let mut net = Net::new([false, true], |me, neighbor| {
        if me == 0 {
            neighbor.asn = Asn(65099);
        }
    });
    net.run(Duration::from_secs(2));
    let status = net.status(0);
    assert_ne!(status.state, "Established");
    let words = status.problem.unwrap();
    assert!(words.contains("says it is AS 65002") && words.contains("AS 65099"), "{words}");
    let words = net.status(1).problem.unwrap();
    assert!(words.contains("Bad Peer AS"), "{words}");
}

#[test]
fn too_many_prefixes_close_that_session_and_keep_it_closed_for_a_while() {
    let mut net = Net::new([false, true], |me, neighbor| {
        if me == 1 {
            neighbor.max_prefixes = Some(1);
        }
    });
    net.run(Duration::from_secs(10));
    net.peers[0].set_wanted(wanted(1, &["198.51.100.0/24", "203.0.113.0/24"], &Attributes::default()));
    net.settle();
    assert!(net.status(0).last_error.unwrap().contains("Maximum Number of Prefixes"));
    assert!(net.status(1).problem.unwrap().contains("max_prefixes (1)"));
    net.run(Duration::from_secs(50));
    assert_ne!(net.states()[1], State::Established);
}

#[test]
fn a_stop_says_its_words_and_is_final() {
    let mut net = Net::new([false, false], |_, _| ());
    net.run(Duration::from_secs(10));
    let now = net.now;
    net.peers[0].stop(&Notification::shutdown("until 04:00"), now);
    net.run(Duration::from_secs(30));
    assert!(net.peers[0].is_stopped());
    assert!(net.status(1).last_error.unwrap().contains("until 04:00"));
}

#[test]
fn after_the_last_words_the_neighbor_has_half_a_second_to_close() {
    let mut net = Net::new([true, false], |_, _| ());
    net.run(Duration::from_secs(10));
    let (now, peer) = (net.now, &mut net.peers[0]);
    let accepted = Origin::Accepted;
    peer.stop(&Notification::shutdown("bye"), now);
    assert_eq!(peer.poll_close(accepted, now), None, "not before they are written");
    peer.handle_written(accepted, peer.out(accepted).len(), now);
    assert_eq!(peer.poll_close(accepted, now), Some(Close::Half));
    // What comes now is read and ignored, whatever it is.
    peer.handle_octets(accepted, &[0; 100], now);
    assert_eq!(peer.poll_close(accepted, now), None);
    assert!(!peer.is_stopped());
    let end = now + Duration::from_millis(500);
    assert_eq!(peer.next_deadline(), Some(end));
    assert_eq!(peer.poll_close(accepted, end), Some(Close::Whole));
    assert!(peer.is_stopped());
}

#[test]
fn a_neighbor_that_closes_or_sends_without_end_is_not_waited_for() {
    for closes in [true, false] {
        let mut net = Net::new([true, false], |_, _| ());
        net.run(Duration::from_secs(10));
        let (now, peer) = (net.now, &mut net.peers[0]);
        peer.stop(&Notification::shutdown("bye"), now);
        peer.handle_written(Origin::Accepted, peer.out(Origin::Accepted).len(), now);
        assert_eq!(peer.poll_close(Origin::Accepted, now), Some(Close::Half));
        if closes {
            peer.handle_closed(Origin::Accepted, "closed".to_owned(), now);
            assert_eq!(peer.poll_close(Origin::Accepted, now), None);
        } else {
            let mut reads = 0;
            while peer.poll_close(Origin::Accepted, now).is_none() {
                peer.handle_octets(Origin::Accepted, &[0xFF; 64 * 1024], now);
                reads += 1;
                assert!(reads < 1000, "no bound");
            }
        }
        assert!(peer.is_stopped());
    }
}

#[test]
fn a_route_refresh_is_answered_with_that_family() {
    let mut net = Net::new([false, true], |_, _| ());
    net.run(Duration::from_secs(10));
    net.peers[0].set_wanted(wanted(1, &["198.51.100.0/24", "2001:db8:1::/48"], &Attributes::default()));
    net.settle();
    let mut request = vec![0xFF; 16];
    request.extend([0, 23, 5, 0, 2, 0, 1]);
    let now = net.now;
    net.peers[0].handle_octets(Origin::Dialled, &request, now);
    net.settle();
    assert_eq!(net.status(1).prefixes_received, 3);
    assert_eq!(net.states(), [State::Established; 2]);
}

#[test]
fn garbage_ends_that_connection_with_the_right_words() {
    for (octets, words) in [
        (vec![0u8; 19], "Connection Not Synchronized"),
        ([&[0xFF; 16][..], &[0xFF, 0xFF, 2]].concat(), "Bad Message Length"),
        ([&[0xFF; 16][..], &[0, 19, 77]].concat(), "Bad Message Type"),
        // An UPDATE whose withdrawn length leaves the message.
        ([&[0xFF; 16][..], &[0, 23, 2, 0xFF, 0, 0, 0]].concat(), "Malformed Attribute List"),
    ] {
        let mut net = Net::new([false, true], |_, _| ());
        net.run(Duration::from_secs(10));
        let now = net.now;
        net.peers[0].handle_octets(Origin::Dialled, &octets, now);
        net.settle();
        let status = net.status(1);
        assert!(status.last_error.as_ref().unwrap().contains(words), "{:?}", status.last_error);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever arrives on a fresh or an established connection: no panic, and the peer recovers.
    #[test]
    fn any_octets_are_survived(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..60), 1..8),
        framed: bool,
        established: bool,
    ) {
        let mut net = Net::new([false, true], |_, _| ());
        net.run(if established { Duration::from_secs(10) } else { Duration::from_micros(1500) });
        for chunk in &chunks {
            let now = net.now;
            if framed {
                let mut header = vec![0xFF; 16];
                header.extend((18 + chunk.len() as u16).to_be_bytes());
                net.peers[1].handle_octets(Origin::Accepted, &header, now);
            }
            net.peers[1].handle_octets(Origin::Accepted, chunk, now);
            net.settle();
        }
        net.run(Duration::from_secs(400));
        prop_assert_eq!(net.states(), [State::Established; 2]);
    }

    /// Connections that cross on the wire end in exactly one session, whatever the latency.
    #[test]
    fn simultaneous_open_settles(latency_us in 1u64..50_000, low_first: bool) {
        let mut net = Net::new([false, false], |_, _| ());
        net.latency = Duration::from_micros(latency_us);
        if low_first {
            net.peers.swap(0, 1);
        }
        net.run(Duration::from_secs(60));
        prop_assert_eq!(net.states(), [State::Established; 2]);
        prop_assert_eq!(net.pipes.len(), 1);
        for side in 0..2 {
            prop_assert_eq!(net.status(side).established_count, 1);
        }
    }
}
