//! What waits to be written behind: what came of one origin is put together, and origins take their turns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::replication::head::Signed;
use crate::replication::record::{Key, Row};
use crate::replication::version::Origin;

/// The first of them waits this long for others.
const GATHER: Duration = Duration::from_millis(100);
/// So many rows are one transaction: what an own write may have to wait for.
pub(super) const PORTION: usize = 1_000;
/// With more rows than this, nothing more is taken in.
const MOST_ROWS: usize = 65_536;

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Behind {
    turns: VecDeque<Origin>,
    waiting: BTreeMap<Origin, Waiting>,
    rows: usize,
    since: Option<Instant>,
}

/// What waits of one origin.
#[derive(Debug)]
pub(super) struct Waiting {
    pub head: Signed,
    /// These are all rows.
    pub whole: bool,
    /// By key; None is one that goes.
    pub rows: BTreeMap<Key, Option<Arc<Row>>>,
}

impl Behind {
    pub fn has_room(&self) -> bool {
        self.rows < MOST_ROWS
    }

    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub fn has(&self, origin: &Origin) -> bool {
        self.waiting.contains_key(origin)
    }

    /// When something is to be written, if anything waits.
    pub fn due(&self) -> Option<Instant> {
        let gathered = if self.rows >= PORTION { Duration::ZERO } else { GATHER };
        self.since.map(|since| since + gathered)
    }

    pub fn put(&mut self, head: Signed, rows: Vec<Arc<Row>>, whole: bool, gone: Vec<Key>, now: Instant) {
        self.since.get_or_insert(now);
        let origin = head.head.origin.clone();
        if !self.waiting.contains_key(&origin) {
            self.turns.push_back(origin.clone());
        }
        let empty = Waiting { head: head.clone(), whole, rows: BTreeMap::new() };
        let waiting = self.waiting.entry(origin).or_insert(empty);
        self.rows -= waiting.rows.len();
        if whole {
            waiting.whole = true;
            waiting.rows.clear();
        }
        for key in gone {
            if waiting.whole {
                waiting.rows.remove(&key);
            } else {
                waiting.rows.insert(key, None);
            }
        }
        waiting.rows.extend(rows.into_iter().map(|row| (row.key.clone(), Some(row))));
        waiting.head = head;
        self.rows += waiting.rows.len();
    }

    /// Whether the next in turn has all its rows written anew.
    pub fn is_whole(&self) -> bool {
        self.turns.front().and_then(|origin| self.waiting.get(origin)).is_some_and(|waiting| waiting.whole)
    }

    /// The next origins in turn whose changes fit one transaction, at least one.
    pub fn portion(&self) -> impl Iterator<Item = &Waiting> {
        let mut rows = 0;
        let next = self.turns.iter().filter_map(|origin| self.waiting.get(origin)).enumerate();
        let fits = move |&(at, waiting): &(usize, &Waiting)| {
            rows += waiting.rows.len();
            at == 0 || (!waiting.whole && rows <= PORTION)
        };
        next.take_while(fits).map(|(_, waiting)| waiting)
    }

    /// So many of the next in turn are written.
    pub fn written(&mut self, count: usize) {
        for _ in 0..count {
            self.take();
        }
    }

    /// The next in turn; it does not wait any more.
    pub fn take(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.remove(&self.turns.pop_front()?)?;
        self.rows -= waiting.rows.len();
        if self.turns.is_empty() {
            self.since = None;
        }
        Some(waiting)
    }

    /// What waits of this origin is not to be written.
    pub fn forget(&mut self, origin: &Origin) {
        if self.waiting.contains_key(origin) {
            self.hurry(origin);
            self.take();
        }
    }

    /// Has this origin's turn come first.
    pub fn hurry(&mut self, origin: &Origin) {
        if let Some(at) = self.turns.iter().position(|waiting| waiting == origin)
            && let Some(origin) = self.turns.remove(at)
        {
            self.turns.push_front(origin);
        }
    }
}
