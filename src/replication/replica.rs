//! One POP's part in replication: takes what others wrote, tells what it writes itself, and finds out who lacks what.
//!
//! It is told of writes, of what arrives on connections, and of the time; what it wants done comes out of
//! [`Replica::poll_effect`]. It knows no socket and no disk.

mod taking;
mod writing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::head::{Head, Signed};
use super::merge::{Applied, Ledger, Limits, Offer};
use super::own::{Own, Rival};
use super::parts::Parts;
use super::rates::Rates;
use super::record::{Key, Row};
use super::relay_tree::{self, Place};
use super::sync::{Buckets, Fetch, Fetches, buckets, differing};
use super::version::{Known, Origin, Point};
use writing::Writing;
pub use writing::{Ticket, Unwritten};

/// How often somebody is asked where we differ, about.
const COMPARE: Duration = Duration::from_secs(1);
/// How often tombstones are looked through that everybody has seen.
const COLLECT: Duration = Duration::from_secs(10);
/// How long a peer is left alone that sent what is not true.
const BLAMED: Duration = Duration::from_secs(30);
/// Effects that wait to be polled; beyond that, pushes are left to anti-entropy.
const EFFECTS: usize = 65_536;
/// Forgotten histories that are kept for their origins, and of one.
const FORGOTTEN: usize = 64;
const FORGOTTEN_OF_ONE: usize = 4;
/// Alarms that are remembered, the last word of each origin.
const ALARMS: usize = 256;

/// Who signs for us, and whom we believe.
pub trait Trust {
    /// # Errors
    /// Why the head is not its origin's, in words.
    fn verify(&mut self, signed: &Signed) -> Result<(), String>;
    fn sign(&self, head: Head) -> Signed;
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Rows that were just written. `spread`: to be told on.
    Push { to: Origin, spread: bool, offer: Arc<Offer> },
    /// Ask where we differ.
    Compare { with: Origin, buckets: Box<Buckets>, yours: Option<Known> },
    /// Ask for rows. `have`: none if all of them are needed.
    Fetch { from: Origin, origin: Origin, have: Option<Point> },
    /// Our own rows have to be on disk, and then [`Replica::handle_persisted`] to be told.
    Persist { offer: Offer, gone: Vec<Key> },
    /// Somebody else's rows are to be kept; when, does not matter.
    Keep { head: Signed, whole: bool, rows: Vec<Arc<Row>>, gone: Vec<Key> },
    /// What became of a write.
    Written { ticket: Ticket, result: Result<Point, Unwritten> },
    /// Rows of an origin are others now.
    Changed { origin: Origin, applied: Applied },
}

/// What a question for rows came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    Rows(Offer),
    /// Rows in the order of their versions, and the last ones did not come.
    Part(Offer),
    /// It has no more than we.
    Nothing,
    /// Whoever was asked is to be left alone for so long.
    Later(Duration),
}

/// What deserves an operator's eyes, with the origin that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub origin: Origin,
    /// Who brought it.
    pub peer: Option<Origin>,
    pub words: String,
    pub at: Instant,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub pushed: u64,
    pub taken: u64,
    pub known: u64,
    pub rows: u64,
    pub refused: u64,
    pub hurried: u64,
    pub unverified: u64,
    pub fetched: u64,
    pub compared: u64,
}

/// The part of one POP.
pub struct Replica<T> {
    own: Own,
    region: Arc<str>,
    ledger: Ledger,
    trust: T,
    writing: Writing,
    fetches: Fetches,
    parts: Parts,
    rates: Rates,
    /// Members that are alive by what is known, ourselves left out.
    members: BTreeMap<Origin, Place>,
    /// Those that a connection leads to.
    peers: BTreeMap<Origin, Peer>,
    /// Origins of which a delta did not fit: all rows are needed.
    whole: BTreeSet<Origin>,
    /// What origins said that they have forgotten since, until their heads say that they know it.
    forgotten: BTreeMap<Origin, Vec<Offer>>,
    alarms: BTreeMap<Origin, Alarm>,
    effects: VecDeque<Effect>,
    counts: Counts,
    /// Somebody has shown us in this run what it knows of us, or that it knows nothing.
    known: bool,
    compare_at: Instant,
    collect_at: Instant,
    random: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// What it has of us.
    acknowledged: Option<Known>,
    compared: u64,
    blamed_until: Option<Instant>,
}

impl<T: Trust> Replica<T> {
    /// `instance`: a random number; `stored`: what the database has, believed if it adds up.
    pub fn new(
        origin: &Origin,
        region: Arc<str>,
        instance: u64,
        limits: Limits,
        trust: T,
        stored: Vec<(Signed, Vec<Row>)>,
        now: Instant,
    ) -> Self {
        let mut ledger = Ledger::new(Limits { rows: u64::MAX, weight: u64::MAX, ..limits });
        let mut damaged = Vec::new();
        for (head, rows) in stored {
            let name = head.head.origin.clone();
            let rows = rows.into_iter().map(Arc::new).collect();
            // What does not add up comes again from the others.
            if let Err(refusal) = ledger.take(Offer { head, after: None, rows }) {
                damaged.push((name, format!("what was stored is left out: {refusal}")));
            }
        }
        ledger.limit(limits);
        let own = Own::begin(origin.clone(), 0, ledger.head(origin).map(|signed| &signed.head), instance);
        let mut replica = Self {
            own,
            region,
            ledger,
            trust,
            writing: Writing::default(),
            fetches: Fetches::default(),
            parts: Parts::default(),
            rates: Rates::new(limits.rate),
            members: BTreeMap::new(),
            peers: BTreeMap::new(),
            whole: BTreeSet::new(),
            forgotten: BTreeMap::new(),
            alarms: BTreeMap::new(),
            effects: VecDeque::new(),
            counts: Counts::default(),
            known: false,
            compare_at: now,
            collect_at: now + COLLECT,
            random: instance | 1,
        };
        for (origin, words) in damaged {
            replica.alarm(origin, None, words, now);
        }
        // This run is an incarnation, also if it never writes a row.
        replica.write_next();
        replica
    }

    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.own.origin()
    }

    #[must_use]
    pub fn rival(&self) -> Option<Rival> {
        self.own.rival()
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn alarms(&self) -> impl Iterator<Item = &Alarm> {
        self.alarms.values()
    }

    /// Origins of which somebody has more than we.
    #[must_use]
    pub fn behind(&self) -> BTreeSet<&Origin> {
        self.fetches.behind()
    }

    /// What a connected peer had of us when it asked last.
    #[must_use]
    pub fn acknowledged(&self, peer: &Origin) -> Option<Known> {
        self.peers.get(peer)?.acknowledged
    }

    pub fn trust_mut(&mut self) -> &mut T {
        &mut self.trust
    }

    pub fn limit(&mut self, limits: Limits) {
        self.ledger.limit(limits);
        self.rates.limit(limits.rate);
    }

    /// Who is alive, ourselves left out.
    pub fn handle_members(&mut self, members: BTreeMap<Origin, Place>) {
        self.members = members;
    }

    pub fn handle_connected(&mut self, peer: &Origin, now: Instant) {
        let compared = self.peers.values().map(|peer| peer.compared).min().unwrap_or_default();
        self.peers.insert(peer.clone(), Peer { compared, ..Peer::default() });
        self.compare_with(peer.clone());
        self.remind(peer);
        self.fetch_next(now);
    }

    pub fn handle_disconnected(&mut self, peer: &Origin, now: Instant) {
        self.peers.remove(peer);
        self.fetches.handle_gone(peer);
        self.fetch_next(now);
    }

    /// Somebody asks where we differ: what to answer.
    pub fn handle_compare(
        &mut self,
        from: &Origin,
        theirs: &Buckets,
        yours: Option<Known>,
    ) -> Vec<(Origin, Known)> {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.acknowledged = yours;
        }
        self.remind(from);
        differing(&self.ledger.vector(), theirs)
    }

    /// The answer to [`Effect::Compare`].
    pub fn handle_compared(&mut self, from: &Origin, known: &[(Origin, Known)], now: Instant) {
        self.counts.compared += 1;
        // Whoever has the same of everybody, ourselves included, shows that too.
        let ours = self.ledger.head(self.own.origin()).map(|signed| signed.head.point);
        self.known |=
            known.iter().all(|(name, theirs)| name != self.own.origin() || Some(theirs.point) < ours);
        for (origin, theirs) in known {
            let ours = self.ledger.head(origin).map(|signed| signed.head.known());
            match ours {
                Some(ours) if ours.point == theirs.point && ours.digest != theirs.digest => {
                    // Of ourselves that is a life that we have forgotten, and it is stepped over.
                    if origin == self.origin() {
                        let next = Point { version: theirs.point.version + 1, ..theirs.point };
                        self.lack(from, origin, next, now);
                    } else {
                        let words = format!("two different states call themselves {}", theirs.point);
                        self.alarm(origin.clone(), Some(from.clone()), words, now);
                    }
                }
                Some(ours) if ours.point >= theirs.point => {}
                _ => self.lack(from, origin, theirs.point, now),
            }
        }
        self.fetch_next(now);
    }

    /// Somebody asks for rows; None if it has what we have.
    #[must_use]
    pub fn handle_fetch(&self, from: &Origin, origin: &Origin, have: Option<Point>) -> Option<Offer> {
        let forgotten = self.forgotten.get(origin).filter(|_| from == origin);
        let forgotten = forgotten.and_then(|histories| histories.first());
        forgotten.cloned().or_else(|| self.ledger.lacking(origin, have))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.blamed_until = peer.blamed_until.filter(|until| *until > now);
        }
        if self.compare_at <= now {
            let turn = COMPARE / 2 + COMPARE.mul_f64(self.next_random() as f64 / u64::MAX as f64);
            self.compare_at = now + turn;
            // Whom we asked least lately, and of those any.
            let least = self.peers.values().map(|peer| peer.compared).min();
            let able: Vec<&Origin> = self
                .peers
                .iter()
                .filter(|(_, peer)| Some(peer.compared) == least)
                .map(|(name, _)| name)
                .collect();
            if !able.is_empty() {
                let chosen = able[(self.random % able.len() as u64) as usize].clone();
                self.compare_with(chosen);
            }
        }
        self.parts.handle_timeout(now);
        if self.collect_at <= now {
            self.collect_at = now + COLLECT;
            self.collect();
        }
        // What the disk did not take.
        self.write_next();
        self.fetch_next(now);
    }

    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let first = self.compare_at.min(self.collect_at);
        self.fetches.next_deadline().map_or(first, |fetch| first.min(fetch))
    }

    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn lack(&mut self, peer: &Origin, origin: &Origin, point: Point, now: Instant) {
        // Who writes too fast is compared again, and asked for when it has room.
        let hurries = self.ledger.head(origin).is_some() && self.rates.wait(origin, now).is_some();
        if !hurries && self.peers.get(peer).is_some_and(|peer| peer.blamed_until.is_none()) {
            self.fetches.handle_more(peer, origin, point);
        }
    }

    fn fetch_next(&mut self, now: Instant) {
        while let Some(Fetch { from, origin }) = self.fetches.poll_fetch(now) {
            // Of ourselves everything, to see what we have forgotten.
            let all = self.whole.contains(&origin) || origin == *self.origin();
            let have = self.ledger.head(&origin).filter(|_| !all).map(|signed| signed.head.point);
            let have = self.parts.reached(&origin, have).or(have);
            self.effects.push_back(Effect::Fetch { from, origin, have });
        }
    }

    fn compare_with(&mut self, peer: Origin) {
        let vector = self.ledger.vector();
        let yours = vector.get(&peer).copied();
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.compared += 1;
        }
        let buckets = Box::new(buckets(&vector));
        self.effects.push_back(Effect::Compare { with: peer, buckets, yours });
    }

    /// Tells rows on: ours to everybody whose turn it is, somebody else's to our share of the region.
    fn push(&mut self, offer: &Arc<Offer>, from: Option<&Origin>) {
        if self.effects.len() > EFFECTS || !super::frame::is_pushable(&offer.rows) {
            return;
        }
        let head = &offer.head.head;
        let me = (self.own.origin(), &*self.region);
        let members = self.members.iter().filter(|(name, _)| self.peers.contains_key(*name));
        let targets = relay_tree::targets(&head.origin, head.point.version, me, members);
        for target in targets.into_iter().filter(|target| Some(&target.to) != from) {
            self.counts.pushed += 1;
            let offer = Arc::clone(offer);
            self.effects.push_back(Effect::Push { to: target.to, spread: target.spread, offer });
        }
    }

    fn alarm(&mut self, origin: Origin, peer: Option<Origin>, words: String, at: Instant) {
        if self.alarms.len() < ALARMS || self.alarms.contains_key(&origin) {
            self.alarms.insert(origin.clone(), Alarm { origin, peer, words, at });
        }
    }

    /// SplitMix64: no secret depends on it.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
