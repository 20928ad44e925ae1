//! Heartbeats between POPs: how each stands for its prefixes, said directly and several times a second.
//!
//! A heartbeat carries the stances of its sender, and which of the receiver's stances it knows: that answer is what
//! the fleet's rule of withdrawals waits for (`announce::fleet`). All of it belongs to one connection: whoever comes
//! again begins anew.

mod packet;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use self::packet::{Packet, packets};
use super::octets::Malformed;
use super::version::Origin;
use crate::catalog::stance::{Heard, HeardOf, Stance, Stances};
pub use packet::KIND;

/// How often everybody is told.
const EVERY: Duration = Duration::from_millis(250);
/// How often while somebody does not know yet what has changed, and for how long.
const SOON: Duration = Duration::from_millis(50);
const NEWS: Duration = Duration::from_secs(1);
/// Answers to one peer are at least so far apart.
const APART: Duration = Duration::from_millis(2);
/// Rounds whose times are remembered: an answer to an older one proves nothing.
const ROUNDS: usize = 64;

/// What this POP says, and what it has heard of everybody.
#[derive(Debug)]
pub struct Heartbeats {
    own: Arc<Stances>,
    changed_at: Instant,
    peers: BTreeMap<Origin, Peer>,
    /// When each round was sent, the last ones.
    rounds: VecDeque<(u64, Instant)>,
    round: u64,
    round_at: Instant,
    /// Whom to answer before the next round.
    answer: BTreeSet<Origin>,
    transmits: VecDeque<(Origin, Vec<u8>)>,
    /// Something has changed that others may wait for.
    news: bool,
    /// When this was told last.
    told_at: Instant,
}

#[derive(Debug, Default)]
struct Peer {
    /// When its last heartbeat came, and its round.
    at: Option<Instant>,
    round: u64,
    /// When we sent the last round of ours that it has answered.
    answered: Option<Instant>,
    /// The last revision of ours that it knows.
    revision: u64,
    /// The last of its own that we know.
    known: u64,
    of: Arc<BTreeMap<IpNetwork, Stance>>,
    /// A revision of which parts are missing.
    partial: Option<Partial>,
    answered_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Partial {
    revision: u64,
    got: BTreeSet<u8>,
    of: BTreeMap<IpNetwork, Stance>,
}

impl Heartbeats {
    #[must_use]
    pub fn new(own: Arc<Stances>, now: Instant) -> Self {
        Self {
            own,
            changed_at: now,
            peers: BTreeMap::new(),
            rounds: VecDeque::new(),
            round: 0,
            round_at: now,
            answer: BTreeSet::new(),
            transmits: VecDeque::new(),
            news: true,
            told_at: now,
        }
    }

    /// Our own stances are others now.
    pub fn handle_own(&mut self, own: Arc<Stances>, now: Instant) {
        if own.revision != self.own.revision {
            self.own = own;
            self.changed_at = now;
            self.send_round(now);
        }
    }

    /// A connection leads there, perhaps another one than before.
    pub fn handle_connected(&mut self, peer: &Origin, now: Instant) {
        self.peers.insert(peer.clone(), Peer::default());
        self.news = true;
        self.send_round(now);
    }

    /// None leads there any more.
    pub fn handle_disconnected(&mut self, peer: &Origin) {
        self.news |= self.peers.remove(peer).is_some();
        self.answer.remove(peer);
    }

    /// Takes a datagram that begins with [`KIND`].
    ///
    /// # Errors
    /// When it means nothing.
    pub fn handle_datagram(&mut self, from: &Origin, octets: &[u8], now: Instant) -> Result<(), Malformed> {
        let packet = Packet::read(octets, now)?;
        let Some(peer) = self.peers.get_mut(from) else { return Ok(()) };
        // Of several that are under way, the older ones say nothing any more.
        if packet.round < peer.round {
            return Ok(());
        }
        (peer.round, peer.at) = (packet.round, Some(now));
        let sent = self.rounds.iter().rev().find(|(round, _)| *round == packet.answers).map(|(_, at)| *at);
        if sent > peer.answered {
            // The first answer makes it count.
            self.news |= peer.answered.is_none();
            peer.answered = sent;
        }
        let (revision, knows) = (packet.revision, packet.knows);
        if revision > peer.known && peer.complete(packet) {
            self.news = true;
            self.answer.insert(from.clone());
        }
        // What it knows of us and how it stands were said together.
        if revision == peer.known && knows <= self.own.revision && knows > peer.revision {
            peer.revision = knows;
            self.news = true;
        }
        Ok(())
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.round_at <= now {
            self.send_round(now);
        }
        let able = |peer: &Peer| peer.answered_at.is_none_or(|at| now >= at + APART);
        let ready: Vec<Origin> =
            self.answer.iter().filter(|name| self.peers.get(name).is_none_or(able)).cloned().collect();
        for name in ready {
            self.answer.remove(&name);
            self.send(&name, now);
        }
    }

    /// A heartbeat and whom it is for.
    pub fn poll_transmit(&mut self) -> Option<(Origin, Vec<u8>)> {
        self.transmits.pop_front()
    }

    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let answers = self.answer.iter().filter_map(|name| self.peers.get(name));
        let able = answers.map(|peer| peer.answered_at.map_or(self.changed_at, |at| at + APART));
        let told = if self.news { self.told_at } else { self.told_at + EVERY };
        able.chain([self.round_at, told]).min().unwrap_or(self.round_at)
    }

    /// What is heard, if there is something to tell: news at once, and ages now and then.
    pub fn poll_heard(&mut self, own: &Origin, members: usize, now: Instant) -> Option<Heard> {
        if !self.news && now < self.told_at + EVERY {
            return None;
        }
        (self.news, self.told_at) = (false, now);
        let of = |(name, peer): (&Origin, &Peer)| {
            let of = peer.of.clone();
            Some((
                name.name(),
                HeardOf { at: peer.at?, answered: peer.answered?, revision: peer.revision, of },
            ))
        };
        Some(Heard { own: own.name(), members, pops: self.peers.iter().filter_map(of).collect() })
    }

    /// When a POP was heard last, and how it stands.
    #[must_use]
    pub fn of(&self, peer: &Origin) -> Option<(Instant, &BTreeMap<IpNetwork, Stance>)> {
        let peer = self.peers.get(peer)?;
        Some((peer.at?, &peer.of))
    }

    /// Those that announce a prefix as far as they say themselves, and are there.
    pub fn announcing(&self, prefix: IpNetwork, now: Instant) -> impl Iterator<Item = &Origin> {
        let there =
            move |peer: &Peer| peer.answered.is_some_and(|at| now < at + crate::catalog::stance::COUNTED);
        let stands = move |peer: &Peer| peer.of.get(&prefix) == Some(&Stance::Announced);
        self.peers.iter().filter(move |(_, peer)| there(peer) && stands(peer)).map(|(name, _)| name)
    }

    fn send_round(&mut self, now: Instant) {
        self.round += 1;
        if self.rounds.len() == ROUNDS {
            self.rounds.pop_front();
        }
        self.rounds.push_back((self.round, now));
        let names: Vec<Origin> = self.peers.keys().cloned().collect();
        for name in names {
            self.send(&name, now);
        }
        self.answer.clear();
        let is_waiting = self.peers.values().any(|peer| peer.revision < self.own.revision);
        let is_fresh = now < self.changed_at + NEWS;
        self.round_at = now + if is_waiting && is_fresh { SOON } else { EVERY };
    }

    fn send(&mut self, to: &Origin, now: Instant) {
        let Some(peer) = self.peers.get_mut(to) else { return };
        peer.answered_at = Some(now);
        for packet in packets(&self.own, self.round, peer.round, peer.known, now) {
            self.transmits.push_back((to.clone(), packet));
        }
    }
}

impl Peer {
    /// Takes a part of a revision; whether that is all of it.
    fn complete(&mut self, packet: Packet) -> bool {
        let partial = self.partial.get_or_insert_default();
        if partial.revision != packet.revision {
            *partial = Partial { revision: packet.revision, ..Partial::default() };
        }
        partial.got.insert(packet.part);
        partial.of.extend(packet.of);
        if partial.got.len() < usize::from(packet.parts) {
            return false;
        }
        if let Some(partial) = self.partial.take() {
            self.known = partial.revision;
            self.of = Arc::new(partial.of);
        }
        true
    }
}

#[cfg(test)]
mod tests;
