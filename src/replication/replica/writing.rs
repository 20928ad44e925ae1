//! Our own rows: on disk before anybody sees them, as many writes at once as have come meanwhile.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::super::head::Head;
use super::super::merge::{Ledger, Limits, Offer, Refusal};
use super::super::own::Seen;
use super::super::record::{Change, Key, Row};
use super::super::version::Origin;
use super::{Effect, Replica, Trust};

/// Writes that wait.
const MOST_WAITING: usize = 4_096;
/// Changes that are written at once.
const MOST_AT_ONCE: usize = 16_384;

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
    waiting: VecDeque<(Option<Ticket>, Vec<Change>)>,
    under_way: Option<UnderWay>,
    /// The floor of tombstones to write next.
    floor: u64,
}

#[derive(Debug)]
struct UnderWay {
    offer: Offer,
    tickets: Vec<Ticket>,
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
        self.writing.waiting.push_back((Some(ticket), changes));
        self.write_next();
    }

    /// What became of [`Effect::Persist`].
    pub fn handle_persisted(&mut self, result: Result<(), String>) {
        let Some(UnderWay { offer, tickets }) = self.writing.under_way.take() else { return };
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
        if result.is_ok() {
            self.push(&Arc::new(offer), None);
        }
        self.write_next();
    }

    /// Everything that waits becomes one write, unless one is under way.
    pub(super) fn write_next(&mut self) {
        while self.writing.under_way.is_none() {
            if self.own.rival().is_some() {
                let waiting = std::mem::take(&mut self.writing.waiting);
                let tickets = waiting.into_iter().filter_map(|(ticket, _)| ticket);
                self.effects.extend(
                    tickets.map(|ticket| Effect::Written { ticket, result: Err(Unwritten::Silenced) }),
                );
                return;
            }
            let mut together = 0;
            let fits = |(_, changes): &&(Option<Ticket>, Vec<Change>)| {
                together += changes.len();
                together <= MOST_AT_ONCE
            };
            let count = self.writing.waiting.iter().take_while(fits).count().max(1);
            if self.try_write(count.min(self.writing.waiting.len())) {
                return;
            }
        }
    }

    /// Writes the first so many; false if that came to nothing and there is more to try.
    fn try_write(&mut self, count: usize) -> bool {
        let before = self.own_head();
        let changes: Vec<Change> =
            self.writing.waiting.iter().take(count).flat_map(|(_, changes)| changes.clone()).collect();
        let after = Some(before.point.version);
        // Also of rows that are not known here: we may have forgotten one that somebody else remembers.
        let prepared = self.ledger.prepare(before, &changes, self.writing.floor);
        let tickets = |writing: &mut Writing, count: usize| -> Vec<Ticket> {
            writing.waiting.drain(..count).filter_map(|(ticket, _)| ticket).collect()
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
            Ok(Some((head, rows))) => {
                let floor = head.floor;
                let offer = Offer { head: self.trust.sign(head), after, rows };
                let gone = self.collected(floor);
                let tickets = tickets(&mut self.writing, count);
                self.effects.push_back(Effect::Persist { offer: offer.clone(), gone });
                self.writing.under_way = Some(UnderWay { offer, tickets });
                true
            }
        }
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
            self.lack(from, &origin, seen.point);
            self.fetch_next(now);
        }
    }

    /// All rows of our name as somebody else has them. What we have not written since our histories parted is as they
    /// say: they know more of our past than we do.
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
        // What we wrote since our histories parted is ours, and so is what is on its way to the disk.
        let parted = ours.map_or(0, |ours| ours.parted(&head));
        let under_way = self.writing.under_way.iter().flat_map(|under_way| &under_way.offer.rows);
        let under_way: BTreeSet<&Key> = under_way.map(|row| &row.key).collect();
        let untouched = |row: &&Arc<Row>| {
            let known = self.ledger.row(&origin, &row.key);
            // What we had when they parted and have not now was deleted since, and its tombstone is gone.
            known.map_or(row.version > parted, |known| known.version <= parted)
                && !under_way.contains(&row.key)
        };
        let mut changes: Vec<Change> = theirs
            .rows(&origin)
            .filter(untouched)
            .map(|row| Change { key: row.key.clone(), value: row.value.clone() })
            .collect();
        changes.extend(
            self.ledger
                .rows(&origin)
                .filter(untouched)
                .filter(|row| theirs.row(&origin, &row.key).is_none())
                .map(|row| Change { key: row.key.clone(), value: None }),
        );
        // In front: what was written since comes after what was there before.
        self.writing.waiting.push_front((None, changes));
        self.write_next();
    }
}
