//! Our own rows: on disk before anybody sees them, as many writes at once as have come meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::super::head::Head;
use super::super::merge::{Ledger, Limits, Offer, Prepared, Refusal};
use super::super::own::Seen;
use super::super::record::{Change, Key};
use super::super::version::Origin;
use super::{Effect, Replica, Trust};

/// Writes that wait.
const MOST_WAITING: usize = 4_096;
/// Changes that are written at once.
const MOST_AT_ONCE: usize = 16_384;
/// Histories that wait to be taken over; of more than these we hear again.
const MOST_LOST: usize = 4;

/// The name of a write, given by whoever asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Why something was not written. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    #[error("too many writes wait already")]
    Busy,
    #[error("{0}")]
    Full(Refusal),
    #[error(
        "another machine writes under this POP's name and was there first: this one has to get a name of its own, or that one be stopped"
    )]
    Silenced,
    #[error("not on disk: {0}")]
    Disk(String),
}

/// Writes that wait, and those under way to the disk.
#[derive(Debug, Default)]
pub(super) struct Writing {
    waiting: VecDeque<(Ticket, Vec<Change>)>,
    /// Histories of ours that we have forgotten: taken over before anything else is written.
    lost: VecDeque<Lost>,
    under_way: Option<UnderWay>,
    /// The floor of tombstones to write next.
    floor: u64,
}

/// A history of ours, and when we heard of it.
#[derive(Debug)]
struct Lost {
    rows: Ledger,
    head: Head,
    at: Instant,
}

#[derive(Debug)]
struct UnderWay {
    offer: Offer,
    tickets: Vec<Ticket>,
    /// It takes the first of the lost histories over.
    reunites: bool,
}

impl<T: Trust> Replica<T> {
    /// Our own rows are to change. [`Effect::Written`] says when it is so, on disk and here.
    pub fn handle_write(&mut self, ticket: Ticket, changes: Vec<Change>) {
        let refused = if self.own.rival().is_some() {
            Some(Unwritten::Silenced)
        } else if self.writing.waiting.len() >= MOST_WAITING {
            Some(Unwritten::Busy)
        } else {
            None
        };
        if let Some(why) = refused {
            self.effects.push_back(Effect::Written { ticket, result: Err(why) });
            return;
        }
        self.writing.waiting.push_back((ticket, changes));
        self.write_next();
    }

    /// What became of [`Effect::Persist`].
    pub fn handle_persisted(&mut self, result: Result<(), String>) {
        let Some(UnderWay { offer, tickets, reunites }) = self.writing.under_way.take() else { return };
        let point = offer.head.head.point;
        let result = result.map_err(Unwritten::Disk).and_then(|()| {
            let taken = self.ledger.take(offer.clone()).map_err(Unwritten::Full)?;
            let origin = self.own.origin().clone();
            if let Some(applied) = taken {
                self.effects.push_back(Effect::Changed { origin, applied });
            }
            Ok(point)
        });
        for ticket in tickets {
            self.effects.push_back(Effect::Written { ticket, result: result.clone() });
        }
        match result {
            Ok(_) => {
                if reunites {
                    self.writing.lost.pop_front();
                }
                self.push(&Arc::new(offer), None);
                self.write_next();
            }
            // Nothing is written before it, and it is tried again when some time has passed.
            Err(why) if reunites => self.refuse_waiting(&why),
            Err(_) => self.write_next(),
        }
    }

    /// Everything that waits becomes one write, unless one is under way.
    pub(super) fn write_next(&mut self) {
        while self.writing.under_way.is_none() {
            if self.own.rival().is_some() {
                self.writing.lost.clear();
                return self.refuse_waiting(&Unwritten::Silenced);
            }
            if !self.writing.lost.is_empty() {
                self.reunite();
                continue;
            }
            let mut together = 0;
            let fits = |(_, changes): &&(Ticket, Vec<Change>)| {
                together += changes.len();
                together <= MOST_AT_ONCE
            };
            let count = self.writing.waiting.iter().take_while(fits).count().max(1);
            if self.try_write(count.min(self.writing.waiting.len())) {
                return;
            }
        }
    }

    fn refuse_waiting(&mut self, why: &Unwritten) {
        for (ticket, _) in self.writing.waiting.drain(..) {
            self.effects.push_back(Effect::Written { ticket, result: Err(why.clone()) });
        }
    }

    /// Writes the first so many; false if that came to nothing and there is more to try.
    fn try_write(&mut self, count: usize) -> bool {
        let before = self.own_head();
        let changes: Vec<Change> =
            self.writing.waiting.iter().take(count).flat_map(|(_, changes)| changes.clone()).collect();
        let prepared = self.ledger.prepare(before, &changes, self.writing.floor);
        let tickets = |writing: &mut Writing, count: usize| -> Vec<Ticket> {
            writing.waiting.drain(..count).map(|(ticket, _)| ticket).collect()
        };
        match prepared {
            // One of them is too much for everybody: each alone.
            Err(_) if count > 1 => self.try_write(1),
            Err(why) => {
                for ticket in tickets(&mut self.writing, count) {
                    let result = Err(Unwritten::Full(why.clone()));
                    self.effects.push_back(Effect::Written { ticket, result });
                }
                self.writing.waiting.is_empty()
            }
            Ok(None) => {
                let point = self.own_head().point;
                for ticket in tickets(&mut self.writing, count) {
                    self.effects.push_back(Effect::Written { ticket, result: Ok(point) });
                }
                self.writing.waiting.is_empty()
            }
            Ok(Some(prepared)) => {
                let tickets = tickets(&mut self.writing, count);
                self.persist(prepared, tickets, false);
                true
            }
        }
    }

    /// Writes what makes the first of the lost histories part of ours.
    fn reunite(&mut self) {
        let origin = self.own.origin().clone();
        let Some(theirs) = self.writing.lost.front() else { return };
        let ours = self.ledger.head(&origin).map(|signed| &signed.head);
        let (before, heard) = (self.own.head_above(ours, &theirs.head), theirs.at);
        match self.ledger.reunite(before, &theirs.rows) {
            Ok(Some(prepared)) => return self.persist(prepared, Vec::new(), true),
            Ok(None) => {}
            Err(refusal) => {
                let words = format!("what others remember of this POP is not taken over: {refusal}");
                self.alarm(origin, None, words, heard);
            }
        }
        self.writing.lost.pop_front();
    }

    fn persist(&mut self, (head, rows): Prepared, tickets: Vec<Ticket>, reunites: bool) {
        let last = self.ledger.head(self.own.origin());
        let after = Some(last.map_or(0, |signed| signed.head.point.version));
        let gone = self.collected(head.floor);
        let offer = Offer { head: self.trust.sign(head), after, rows };
        self.effects.push_back(Effect::Persist { offer: offer.clone(), gone });
        self.writing.under_way = Some(UnderWay { offer, tickets, reunites });
    }

    /// Keys of our tombstones up to a floor.
    fn collected(&self, floor: u64) -> Vec<Key> {
        let rows = self.ledger.rows(self.own.origin());
        let graves = rows.filter(|row| row.is_tombstone() && row.version <= floor);
        graves.map(|row| row.key.clone()).collect()
    }

    fn own_head(&self) -> Head {
        self.own.head(self.ledger.head(self.own.origin()).map(|signed| &signed.head))
    }

    /// Tombstones that every member has seen go.
    pub(super) fn collect(&mut self) {
        // What others remember of us may have what a tombstone of ours deletes.
        if !self.writing.lost.is_empty() || self.fetches.behind().contains(self.own.origin()) {
            return;
        }
        let own = self.own_head();
        let seen = self.members.keys().map(|member| {
            let known = self.peers.get(member)?.acknowledged?;
            own.continues(known.point).then_some(known.point.version)
        });
        let Some(floor) = seen.collect::<Option<Vec<u64>>>().and_then(|seen| seen.into_iter().min()) else {
            return;
        };
        if self.ledger.graves_up_to(self.own.origin(), floor) > 0 {
            self.writing.floor = floor;
            self.write_next();
        }
    }

    /// Somebody has a head of our name that we do not know: all of it is asked for.
    pub(super) fn meet_own(&mut self, from: &Origin, seen: &Head, now: Instant) {
        let known = self.ledger.head(self.own.origin()).is_some_and(|signed| signed.head == *seen);
        let written = seen.instance == self.own_head().instance;
        if !known && !written {
            let origin = self.own.origin().clone();
            self.lack(from, &origin, seen.point, now);
            self.fetch_next(now);
        }
    }

    /// All rows of our name as somebody else has them: they may know more of our past than we do.
    pub(super) fn adopt(&mut self, from: &Origin, offer: Offer, now: Instant) {
        let origin = self.own.origin().clone();
        let head = offer.head.head.clone();
        self.fetches.handle_have(&origin, head.point);
        let mut theirs = Ledger::new(Limits { rows: u64::MAX, weight: u64::MAX, ..Limits::default() });
        if let Err(refusal) = theirs.take(offer) {
            self.alarm(origin, Some(from.clone()), refusal.to_string(), now);
            return self.blame(from, now);
        }
        let ours = self.ledger.head(&origin).map(|signed| signed.head.clone());
        let alone = !std::mem::replace(&mut self.known, true);
        let seen = self.own.handle_head(&head, ours.as_ref(), alone);
        match seen {
            Seen::Old => return,
            Seen::Elder => {
                let words = Unwritten::Silenced.to_string();
                self.alarm(origin, Some(from.clone()), words, now);
                return self.write_next();
            }
            Seen::Younger => {
                let words = "another machine writes under this POP's name; it came later and has to stop";
                self.alarm(origin.clone(), Some(from.clone()), words.to_owned(), now);
            }
            Seen::Lost => {}
        }
        if self.writing.lost.len() < MOST_LOST && !self.writing.lost.iter().any(|known| known.head == head) {
            self.writing.lost.push_back(Lost { rows: theirs, head, at: now });
        }
        self.write_next();
    }
}
