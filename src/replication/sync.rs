//! Anti-entropy: who lacks what of whom, found out with few octets, and asked for within bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::version::{Known, Origin, Point, Vector};

/// Into how many groups the origins fall that are compared at once.
pub const BUCKETS: usize = 64;
/// Fetches under way in all, and from one peer.
const MOST_FETCHES: usize = 4;
const MOST_OF_PEER: usize = 2;
/// How long a fetch may take; one of its frames is on the way all that time, or it has failed long before.
const PATIENCE: Duration = Duration::from_secs(30);
/// How soon somebody else is asked for what could not be had, and the same one again.
const AGAIN: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// A short digest of each group of origins.
pub type Buckets = [[u8; 8]; BUCKETS];

/// The group of an origin.
#[must_use]
pub fn bucket(origin: &Origin) -> usize {
    usize::from(blake3::hash(origin.as_str().as_bytes()).as_bytes()[0]) % BUCKETS
}

/// What is sent to compare. Equal vectors have equal buckets.
#[must_use]
pub fn buckets(vector: &Vector) -> Buckets {
    let mut texts: [Vec<u8>; BUCKETS] = std::array::from_fn(|_| Vec::new());
    for (origin, known) in vector {
        let text = &mut texts[bucket(origin)];
        origin.put(text);
        known.put(text);
    }
    texts.map(|text| {
        let mut short = [0; 8];
        if !text.is_empty() {
            short.copy_from_slice(&blake3::hash(&text).as_bytes()[..8]);
        }
        short
    })
}

/// What to answer: everything known in the groups that differ.
#[must_use]
pub fn differing(vector: &Vector, theirs: &Buckets) -> Vec<(Origin, Known)> {
    let ours = buckets(vector);
    let differs = |origin: &Origin| {
        let at = bucket(origin);
        ours[at] != theirs[at]
    };
    vector
        .iter()
        .filter(|(origin, _)| differs(origin))
        .map(|(origin, known)| (origin.clone(), *known))
        .collect()
}

/// What to ask of whom.
#[derive(Debug, Default)]
pub struct Fetches {
    /// Who has more than we of an origin, and how much; the last word of each.
    wanted: BTreeMap<Origin, BTreeMap<Origin, Point>>,
    running: BTreeMap<Origin, Running>,
    /// Whoever refused or failed is left alone for a while: by origin and peer.
    resting: BTreeMap<(Origin, Origin), Rest>,
}

#[derive(Debug)]
struct Running {
    from: Origin,
    until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    /// None: it is over, and was noticed to be.
    until: Option<Instant>,
    /// The last length; it doubles.
    time: Duration,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub from: Origin,
    pub origin: Origin,
}

impl Fetches {
    /// A peer has this of an origin, and we have less.
    pub fn handle_more(&mut self, peer: &Origin, origin: &Origin, point: Point) {
        self.wanted.entry(origin.clone()).or_default().insert(peer.clone(), point);
    }

    /// We have this of an origin now.
    pub fn handle_have(&mut self, origin: &Origin, have: Point) {
        if let Some(peers) = self.wanted.get_mut(origin) {
            peers.retain(|_, point| *point > have);
            if peers.is_empty() {
                self.wanted.remove(origin);
                self.resting.retain(|(other, _), _| other != origin);
            }
        }
    }

    /// A peer has no more than we of an origin, whatever it said.
    pub fn handle_less(&mut self, peer: &Origin, origin: &Origin) {
        if let Some(peers) = self.wanted.get_mut(origin) {
            peers.remove(peer);
            if peers.is_empty() {
                self.wanted.remove(origin);
            }
        }
    }

    /// A peer is not connected any more.
    pub fn handle_gone(&mut self, peer: &Origin) {
        for peers in self.wanted.values_mut() {
            peers.remove(peer);
        }
        self.wanted.retain(|_, peers| !peers.is_empty());
        self.running.retain(|_, running| running.from != *peer);
        self.resting.retain(|(_, other), _| other != peer);
    }

    /// A fetch has ended. `rest`: it brought nothing, and the peer is left alone for this, at least.
    pub fn handle_end(&mut self, peer: &Origin, origin: &Origin, rest: Option<Duration>, now: Instant) {
        if self.running.get(origin).is_some_and(|running| running.from == *peer) {
            self.running.remove(origin);
        }
        let key = (origin.clone(), peer.clone());
        match rest {
            None => drop(self.resting.remove(&key)),
            Some(least) => {
                let last = self.resting.get(&key).map_or(AGAIN / 2, |rest| rest.time);
                let time = (2 * last).max(least).min(LONGEST);
                self.resting.insert(key, Rest { until: Some(now + time), time });
            }
        }
    }

    /// The next question that may be asked.
    pub fn poll_fetch(&mut self, now: Instant) -> Option<Fetch> {
        self.running.retain(|_, running| running.until > now);
        for rest in self.resting.values_mut() {
            rest.until = rest.until.filter(|until| *until > now);
        }
        if self.running.len() >= MOST_FETCHES {
            return None;
        }
        let mut of_peer: BTreeMap<&Origin, usize> = BTreeMap::new();
        for running in self.running.values() {
            *of_peer.entry(&running.from).or_default() += 1;
        }
        let rests = |origin: &Origin, peer: &Origin| {
            self.resting.get(&(origin.clone(), peer.clone())).is_some_and(|rest| rest.until.is_some())
        };
        let free = |peer: &&Origin| of_peer.get(*peer).is_none_or(|count| *count < MOST_OF_PEER);
        let idle = self.wanted.iter().filter(|(origin, _)| !self.running.contains_key(*origin));
        let fetch = idle
            .filter_map(|(origin, peers)| {
                // Of those who know most, the origin itself if it is there.
                let able = peers.iter().filter(|(peer, _)| free(peer) && !rests(origin, peer));
                let best = able.max_by_key(|(peer, point)| (**point, *peer == origin))?;
                Some(Fetch { from: best.0.clone(), origin: origin.clone() })
            })
            .next()?;
        let running = Running { from: fetch.from.clone(), until: now + PATIENCE };
        self.running.insert(fetch.origin.clone(), running);
        Some(fetch)
    }

    /// When something may be asked that may not be asked now.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let rests = self.resting.iter().filter(|((origin, peer), _)| {
            self.wanted.get(origin).is_some_and(|peers| peers.contains_key(peer))
        });
        let rests = rests.filter_map(|(_, rest)| rest.until);
        self.running.values().map(|running| running.until).chain(rests).min()
    }

    /// Origins of which somebody has more than we.
    #[must_use]
    pub fn behind(&self) -> BTreeSet<&Origin> {
        self.wanted.keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str) -> Origin {
        Origin::new(name).unwrap()
    }

    fn known(version: u64) -> Known {
        Known { point: Point::new(1, version), ..Known::default() }
    }

    #[test]
    fn only_what_differs_is_told() {
        let ours: Vector = (0..500).map(|n| (origin(&format!("p{n}")), known(n))).collect();
        assert_eq!(differing(&ours, &buckets(&ours)), []);
        let mut theirs = ours.clone();
        theirs.insert(origin("p7"), known(99));
        let told = differing(&ours, &buckets(&theirs));
        assert!(told.contains(&(origin("p7"), known(7))));
        assert!(told.len() < 30, "{}", told.len());
        // Somebody who knows nothing is told everything.
        assert_eq!(differing(&ours, &[[0; 8]; BUCKETS]).len(), 500);
    }

    #[test]
    fn one_question_for_each_origin_and_few_at_once() {
        let now = Instant::now();
        let mut fetches = Fetches::default();
        for n in 0..20 {
            for peer in ["fra1", "sin1", "gru1"] {
                fetches.handle_more(&origin(peer), &origin(&format!("p{n}")), Point::new(1, 5));
            }
        }
        let asked: Vec<_> = std::iter::from_fn(|| fetches.poll_fetch(now)).collect();
        assert_eq!(asked.len(), MOST_FETCHES);
        let origins: BTreeSet<_> = asked.iter().map(|fetch| &fetch.origin).collect();
        assert_eq!(origins.len(), MOST_FETCHES);
        assert!(asked.iter().filter(|fetch| fetch.from == asked[0].from).count() <= MOST_OF_PEER);
        // One that hangs makes room after a while.
        assert!(fetches.poll_fetch(now + PATIENCE).is_some());
    }

    #[test]
    fn who_is_busy_is_left_alone_and_somebody_else_asked() {
        let now = Instant::now();
        let mut fetches = Fetches::default();
        let (gru1, fra1, sin1) = (origin("gru1"), origin("fra1"), origin("sin1"));
        fetches.handle_more(&fra1, &gru1, Point::new(1, 9));
        fetches.handle_more(&sin1, &gru1, Point::new(1, 8));
        let first = fetches.poll_fetch(now).unwrap();
        assert_eq!(first.from, fra1);
        fetches.handle_end(&fra1, &gru1, Some(Duration::from_millis(500)), now);
        assert_eq!(fetches.poll_fetch(now).unwrap().from, sin1);
        fetches.handle_end(&sin1, &gru1, None, now);
        fetches.handle_have(&gru1, Point::new(1, 8));
        assert_eq!(fetches.poll_fetch(now), None);
        assert_eq!(fetches.next_deadline(), Some(now + Duration::from_millis(500)));
        assert_eq!(fetches.poll_fetch(now + Duration::from_millis(500)).unwrap().from, fra1);
        // While one is asked, the other's rest may end: that wakes nobody again and again.
        fetches.handle_more(&sin1, &gru1, Point::new(1, 10));
        fetches.handle_end(&sin1, &gru1, Some(Duration::from_millis(10)), now);
        let later = now + Duration::from_secs(5);
        assert_eq!(fetches.poll_fetch(later), None);
        assert!(fetches.next_deadline().unwrap() > later);
        fetches.handle_have(&gru1, Point::new(1, 10));
        assert!(fetches.behind().is_empty());
    }

    #[test]
    fn the_origin_itself_is_asked_first() {
        let now = Instant::now();
        let mut fetches = Fetches::default();
        for peer in ["zrh1", "gru1", "ams1"] {
            fetches.handle_more(&origin(peer), &origin("gru1"), Point::new(1, 9));
        }
        assert_eq!(fetches.poll_fetch(now).unwrap().from, origin("gru1"));
    }
}
