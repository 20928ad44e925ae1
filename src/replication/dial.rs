//! Whom to connect to, where, and when: one connection for each pair, and no storm after an outage.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::version::Origin;

/// Dials under way at once.
const MOST_AT_ONCE: usize = 16;
/// The first wait after a failure, and the longest.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(15);
/// How long the one with the larger name waits, in case that the other cannot dial.
const COURTESY: Duration = Duration::from_millis(1_500);

/// For so long a connection is left where it is before it moves into the tunnel, and after that failed.
const SETTLED: Duration = Duration::from_secs(2);
const MOVED: Duration = Duration::from_secs(30);

/// Where a peer is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// Through the tunnel while it is up: the best.
    pub inside: Option<SocketAddr>,
    /// Tried in turn.
    pub outside: Vec<SocketAddr>,
}

impl Ways {
    fn count(&self) -> usize {
        usize::from(self.inside.is_some()) + self.outside.len()
    }

    /// The tunnel first.
    fn at(&self, turn: usize) -> Option<SocketAddr> {
        self.inside.iter().chain(&self.outside).nth(turn % self.count().max(1)).copied()
    }
}

/// The peers and the next attempt to connect to each, or to move the connection into the tunnel or out of it.
#[derive(Debug)]
pub struct Dials {
    own: Origin,
    peers: BTreeMap<Origin, Peer>,
    /// With whether it is through a tunnel.
    connected: BTreeMap<Origin, bool>,
    random: u64,
}

#[derive(Debug)]
struct Peer {
    ways: Ways,
    turn: usize,
    at: Instant,
    wait: Duration,
    under_way: bool,
}

impl Peer {
    /// The next way to try; none if there is nothing to try. `inside`: how it is connected.
    fn way(&self, inside: Option<bool>) -> Option<SocketAddr> {
        match (inside, self.ways.inside) {
            _ if self.under_way => None,
            (None, _) => self.ways.at(self.turn),
            (Some(false), Some(better)) => Some(better),
            (Some(true), None) => self.ways.at(self.turn),
            (Some(true), Some(_)) | (Some(false), None) => None,
        }
    }
}

impl Dials {
    #[must_use]
    pub fn new(own: Origin, random: u64) -> Self {
        Self { own, peers: BTreeMap::new(), connected: BTreeMap::new(), random: random | 1 }
    }

    /// Everybody to connect to, and where. Attempts under way go on.
    pub fn want(&mut self, wanted: &BTreeMap<Origin, Ways>, now: Instant) {
        self.peers.retain(|peer, _| wanted.contains_key(peer));
        for (name, ways) in wanted.iter().filter(|(name, _)| **name != self.own) {
            let courtesy = self.courtesy(name);
            let peer = self.peers.entry(name.clone()).or_insert_with(|| Peer {
                ways: Ways::default(),
                turn: 0,
                at: now + courtesy,
                wait: FIRST,
                under_way: false,
            });
            if peer.ways == *ways {
                continue;
            }
            let tunnel = peer.ways.inside != ways.inside;
            (peer.ways, peer.turn) = (ways.clone(), 0);
            if tunnel && self.connected.contains_key(name) {
                // Out of a tunnel that is down at once, and in when it is there to stay.
                peer.wait = FIRST;
                peer.at = now + courtesy + if ways.inside.is_some() { SETTLED } else { Duration::ZERO };
            }
        }
    }

    /// `inside`: through its tunnel.
    pub fn handle_connected(&mut self, name: &Origin, inside: bool, now: Instant) {
        self.connected.insert(name.clone(), inside);
        let courtesy = self.courtesy(name);
        if let Some(peer) = self.peers.get_mut(name) {
            (peer.under_way, peer.wait, peer.turn) = (false, FIRST, 0);
            peer.at = now + SETTLED + courtesy;
        }
    }

    pub fn handle_closed(&mut self, name: &Origin, now: Instant) {
        self.connected.remove(name);
        let wait = self.courtesy(name) + self.jitter(FIRST);
        if let Some(peer) = self.peers.get_mut(name) {
            peer.at = now + wait;
        }
    }

    pub fn handle_unreached(&mut self, name: &Origin, now: Instant) {
        let random = self.next_random();
        let Some(peer) = self.peers.get_mut(name) else { return };
        peer.under_way = false;
        if self.connected.get(name) == Some(&false) {
            // It stays where it is.
            peer.at = now + jittered(MOVED, random);
            return;
        }
        peer.turn += 1;
        peer.at = now + jittered(peer.wait, random);
        // Every way once before the wait grows.
        if peer.turn % peer.ways.count().max(1) == 0 {
            peer.wait = (2 * peer.wait).min(LONGEST);
        }
    }

    /// The next dial that is due.
    pub fn poll_dial(&mut self, now: Instant) -> Option<(Origin, SocketAddr)> {
        if self.peers.values().filter(|peer| peer.under_way).count() >= MOST_AT_ONCE {
            return None;
        }
        let connected = &self.connected;
        let due = self.peers.iter_mut().filter(|(_, peer)| peer.at <= now);
        let due = due.filter_map(|(name, peer)| {
            let way = peer.way(connected.get(name).copied())?;
            Some((name, peer, way))
        });
        // Who waits longest.
        let (name, peer, way) = due.min_by_key(|(_, peer, _)| peer.at)?;
        peer.under_way = true;
        Some((name.clone(), way))
    }

    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let idle = self.peers.iter().filter(|(name, peer)| {
            let inside = self.connected.get(*name).copied();
            peer.way(inside).is_some()
        });
        idle.map(|(_, peer)| peer.at).min()
    }

    /// Whether a new connection takes the place of the one that is there. Both sides come to the same answer: the one
    /// that the smaller name dialed stays. Unless the old one has been there for a while, or is of the same side: nobody
    /// dials who has a connection, but to move it or because it is dead at the other end.
    #[must_use]
    pub fn replaces(&self, peer: &Origin, old_by_us: bool, old_age: Duration, new_by_us: bool) -> bool {
        old_by_us == new_by_us || old_age > 2 * COURTESY || new_by_us == (self.own < *peer)
    }

    /// Of two POPs the one with the smaller name dials; the other gives it some time.
    fn courtesy(&self, name: &Origin) -> Duration {
        if self.own < *name { Duration::ZERO } else { COURTESY }
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
        let outside = |ports: &[u16]| ports.iter().map(|port| way(*port)).collect();
        let wanted =
            peers.iter().map(|(name, ports)| (origin(name), Ways { inside: None, outside: outside(ports) }));
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
        dials.handle_connected(&origin("b"), false, now);
        assert_eq!((dials.poll_dial(now + LONGEST), dials.next_deadline()), (None, None));
        dials.handle_closed(&origin("b"), now);
        assert!(dials.next_deadline().unwrap() - now <= 2 * FIRST);
    }

    #[test]
    fn a_connection_follows_the_tunnel() {
        let now = Instant::now();
        let (b, inside) = (origin("b"), SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 4002)));
        let mut dials = dials("a", &[("b", &[1])], now);
        let ways = |inside| BTreeMap::from([(b.clone(), Ways { inside, outside: vec![way(1)] })]);
        assert_eq!(dials.poll_dial(now), Some((b.clone(), way(1))));
        dials.handle_connected(&b, false, now);
        assert_eq!((dials.poll_dial(now + LONGEST), dials.next_deadline()), (None, None));
        // The tunnel is up, and stays.
        dials.want(&ways(Some(inside)), now);
        assert_eq!(dials.poll_dial(now + SETTLED / 2), None);
        assert_eq!(dials.poll_dial(now + SETTLED), Some((b.clone(), inside)));
        // Somebody does not let us in there: the connection stays, and it is tried again much later.
        dials.handle_unreached(&b, now + SETTLED);
        assert_eq!(dials.poll_dial(now + SETTLED + MOVED / 3), None);
        let later = now + 2 * MOVED;
        assert_eq!(dials.poll_dial(later), Some((b.clone(), inside)));
        dials.handle_connected(&b, true, later);
        assert_eq!(dials.next_deadline(), None);
        // It is down: out of it at once, and again soon if that fails.
        dials.want(&ways(None), later);
        assert_eq!(dials.poll_dial(later), Some((b.clone(), way(1))));
        dials.handle_unreached(&b, later);
        assert_eq!(dials.poll_dial(later + 2 * FIRST), Some((b.clone(), way(1))));
        // The tunnel does not let anybody through who is not connected yet: the next way is outside.
        dials.handle_closed(&b, later);
        dials.handle_unreached(&b, later);
        dials.want(&ways(Some(inside)), later);
        let next = later + 2 * FIRST;
        assert_eq!(dials.poll_dial(next), Some((b.clone(), inside)));
        dials.handle_unreached(&b, next);
        assert_eq!(dials.poll_dial(next + 4 * FIRST), Some((b.clone(), way(1))));
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
