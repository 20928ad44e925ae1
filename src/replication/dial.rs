//! Whom to connect to, where, and when: one connection for each pair, and no storm after an outage.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::version::Origin;

/// Dials under way at once.
const MOST_AT_ONCE: usize = 16;
/// The first wait after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);
/// Of two POPs the one with the smaller name dials; the other waits this long first, in case that one cannot.
const COURTESY: Duration = Duration::from_millis(1_500);

/// The peers that are not connected, each with its next attempt.
#[derive(Debug)]
pub struct Dials {
    own: Origin,
    peers: BTreeMap<Origin, Peer>,
    connected: BTreeSet<Origin>,
    random: u64,
}

#[derive(Debug)]
struct Peer {
    /// Tried in turn.
    ways: Vec<SocketAddr>,
    turn: usize,
    at: Instant,
    wait: Duration,
    under_way: bool,
}

impl Dials {
    #[must_use]
    pub fn new(own: Origin, random: u64) -> Self {
        Self { own, peers: BTreeMap::new(), connected: BTreeSet::new(), random: random | 1 }
    }

    /// Everybody to connect to, and the addresses of each. Attempts under way go on.
    pub fn want(&mut self, wanted: &BTreeMap<Origin, Vec<SocketAddr>>, now: Instant) {
        self.peers.retain(|peer, _| wanted.contains_key(peer));
        for (name, ways) in wanted.iter().filter(|(name, _)| **name != self.own) {
            let courtesy = if self.own < *name { Duration::ZERO } else { COURTESY };
            let peer = self.peers.entry(name.clone()).or_insert_with(|| Peer {
                ways: Vec::new(),
                turn: 0,
                at: now + courtesy,
                wait: FIRST,
                under_way: false,
            });
            if peer.ways != *ways {
                (peer.ways, peer.turn) = (ways.clone(), 0);
            }
        }
    }

    pub fn handle_connected(&mut self, name: &Origin) {
        self.connected.insert(name.clone());
        if let Some(peer) = self.peers.get_mut(name) {
            (peer.under_way, peer.wait, peer.turn) = (false, FIRST, 0);
        }
    }

    pub fn handle_closed(&mut self, name: &Origin, now: Instant) {
        self.connected.remove(name);
        let courtesy = if self.own < *name { Duration::ZERO } else { COURTESY };
        let jitter = self.jitter(FIRST);
        if let Some(peer) = self.peers.get_mut(name) {
            peer.at = now + courtesy + jitter;
        }
    }

    pub fn handle_unreached(&mut self, name: &Origin, now: Instant) {
        let random = self.next_random();
        if let Some(peer) = self.peers.get_mut(name) {
            peer.under_way = false;
            peer.turn += 1;
            peer.at = now + jittered(peer.wait, random);
            // Every way once before the wait grows.
            if peer.turn % peer.ways.len().max(1) == 0 {
                peer.wait = (2 * peer.wait).min(LONGEST);
            }
        }
    }

    /// The next dial that is due.
    pub fn poll_dial(&mut self, now: Instant) -> Option<(Origin, SocketAddr)> {
        if self.peers.values().filter(|peer| peer.under_way).count() >= MOST_AT_ONCE {
            return None;
        }
        let connected = &self.connected;
        let due = self.peers.iter_mut().filter(|(name, peer)| {
            !peer.under_way && !peer.ways.is_empty() && peer.at <= now && !connected.contains(*name)
        });
        // Who waits longest.
        let (name, peer) = due.min_by_key(|(_, peer)| peer.at)?;
        peer.under_way = true;
        Some((name.clone(), peer.ways[peer.turn % peer.ways.len()]))
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let idle = self.peers.iter().filter(|(name, peer)| {
            !peer.under_way && !peer.ways.is_empty() && !self.connected.contains(*name)
        });
        idle.map(|(_, peer)| peer.at).min()
    }

    /// Whether a new connection takes the place of the one that is there. Both sides come to the same answer: the one
    /// that the smaller name dialed stays. Unless the old one has been there for a while, or is of the same side: nobody
    /// dials who has a connection, so that one is dead at the other end.
    #[must_use]
    pub fn replaces(&self, peer: &Origin, old_by_us: bool, old_age: Duration, new_by_us: bool) -> bool {
        old_by_us == new_by_us || old_age > 2 * COURTESY || new_by_us == (self.own < *peer)
    }

    fn jitter(&mut self, time: Duration) -> Duration {
        let random = self.next_random();
        jittered(time, random)
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// From half of it to one and a half.
fn jittered(time: Duration, random: u64) -> Duration {
    time.mul_f64(0.5 + (random >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str) -> Origin {
        Origin::new(name).unwrap()
    }

    fn way(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn dials(own: &str, peers: &[(&str, &[u16])], now: Instant) -> Dials {
        let mut dials = Dials::new(origin(own), 7);
        let wanted =
            peers.iter().map(|(name, ports)| (origin(name), ports.iter().map(|p| way(*p)).collect()));
        dials.want(&wanted.collect(), now);
        dials
    }

    #[test]
    fn the_smaller_name_dials_at_once_and_the_other_only_if_it_does_not() {
        let now = Instant::now();
        let mut fra1 = dials("fra1", &[("gru1", &[1]), ("fra1", &[9])], now);
        assert_eq!(fra1.poll_dial(now), Some((origin("gru1"), way(1))));
        let mut gru1 = dials("gru1", &[("fra1", &[2])], now);
        assert_eq!(gru1.poll_dial(now), None);
        assert_eq!(gru1.poll_dial(now + COURTESY), Some((origin("fra1"), way(2))));
        // Both have dialed: both keep the connection of fra1.
        let young = Duration::from_millis(100);
        assert!(gru1.replaces(&origin("fra1"), true, young, false));
        assert!(!fra1.replaces(&origin("gru1"), true, young, false));
        // One of the two has begun anew.
        assert!(fra1.replaces(&origin("gru1"), true, Duration::from_secs(60), false));
    }

    #[test]
    fn failures_try_every_way_and_grow_apart() {
        let mut now = Instant::now();
        let mut dials = dials("a", &[("b", &[1, 2])], now);
        let (mut tried, mut waits) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            let (peer, way) = dials.poll_dial(now).unwrap();
            assert_eq!(dials.poll_dial(now + LONGEST), None, "it is under way");
            tried.push(way.port());
            dials.handle_unreached(&peer, now);
            let next = dials.next_deadline().unwrap();
            waits.push(next - now);
            now = next;
        }
        assert_eq!(tried[..4], [1, 2, 1, 2]);
        assert!(waits[0] < 2 * FIRST && waits[19] >= LONGEST / 2 && waits.iter().all(|w| *w <= 2 * LONGEST));
        dials.handle_connected(&origin("b"));
        assert_eq!((dials.poll_dial(now + LONGEST), dials.next_deadline()), (None, None));
        dials.handle_closed(&origin("b"), now);
        assert!(dials.next_deadline().unwrap() - now <= 2 * FIRST);
    }

    #[test]
    fn few_are_dialed_at_once() {
        let now = Instant::now();
        let names: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
        let peers: Vec<(&str, &[u16])> = names.iter().map(|name| (name.as_str(), &[1u16][..])).collect();
        let mut dials = dials("a", &peers, now);
        assert_eq!(std::iter::from_fn(|| dials.poll_dial(now)).count(), MOST_AT_ONCE);
    }
}
