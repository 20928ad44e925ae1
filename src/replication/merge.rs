//! The ledger: the rows of every origin, and the rules by which more of them are taken.
//!
//! INVARIANT: the rows of an origin always add up to the head that is kept with them. What is offered is counted
//! before any of it is taken, and taken whole or not at all.

mod histories;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::digest::Sum;
use super::head::{Head, Signed};
use super::record::{Change, Key, Row};
use super::version::{MOST_ORIGINS, Origin, Point, Vector};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one origin.
    pub rows: u64,
    /// Of one origin, as `Row::weight` counts: octets in memory, about.
    pub weight: u64,
    /// Rows of one origin that are taken in a second, and four times as many at once: for `Replica` to keep.
    pub rate: u64,
    /// Of all origins together.
    pub total_rows: u64,
    pub total_weight: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 20_000, weight: 16 << 20, rate: 5_000, total_rows: 2_000_000, total_weight: 1 << 30 }
    }
}

/// Rows with the head that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub head: Signed,
    /// None: these are all the rows there are. Otherwise all that were written after this version.
    pub after: Option<u64>,
    /// In the order of their versions.
    pub rows: Vec<Arc<Row>>,
}

/// Why an offer is not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It begins after what we have; the rows between are to be asked for.
    #[error("rows after {have} are missing")]
    Gap { have: Point },
    /// It is of an incarnation that does not continue what we have, or does not add up: all rows are to be asked for.
    #[error("the rows do not continue what is known here")]
    Fork,
    /// Two histories of one origin.
    #[error("two different states of {0} call themselves {1}")]
    Conflict(Origin, Point),
    #[error("the rows of {0} do not add up to its head")]
    Unproven(Origin),
    #[error("{origin} has {what}, more than the {limit} that are kept of one POP")]
    Quota { origin: Origin, what: &'static str, limit: u64 },
    #[error("with {origin}, the fleet has {what}, more than the {limit} that are kept")]
    Total { origin: Origin, what: &'static str, limit: u64 },
    #[error("{0} is one POP more than the {MOST_ORIGINS} that are kept")]
    Origins(Origin),
    #[error("the rows of {0} are in no order")]
    Disorder(Origin),
}

/// A state to be: its head, and the rows that are new in it.
pub type Prepared = (Head, Vec<Arc<Row>>);

/// What an offer has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Written now, tombstones included.
    pub rows: Vec<Arc<Row>>,
    /// Not there any more: collected tombstones, and after a snapshot what it does not have.
    pub gone: Vec<Arc<Row>>,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Ledger {
    books: BTreeMap<Origin, Book>,
    limits: Limits,
    rows: u64,
    weight: u64,
}

/// One origin.
#[derive(Debug)]
struct Book {
    head: Signed,
    sum: Sum,
    rows: HashMap<Key, Arc<Row>>,
    /// The same rows by version.
    order: BTreeMap<u64, Arc<Row>>,
    /// Versions of those that are tombstones.
    graves: BTreeSet<u64>,
}

impl Ledger {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Other limits, from now on. What is there stays.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Rows and their weight, of all origins.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        (self.rows, self.weight)
    }

    /// Where everybody stands, as far as is known here.
    #[must_use]
    pub fn vector(&self) -> Vector {
        self.books.iter().map(|(origin, book)| (origin.clone(), book.head.head.known())).collect()
    }

    pub fn heads(&self) -> impl Iterator<Item = &Signed> {
        self.books.values().map(|book| &book.head)
    }

    #[must_use]
    pub fn head(&self, origin: &Origin) -> Option<&Signed> {
        self.books.get(origin).map(|book| &book.head)
    }

    /// The rows of one origin in no order, tombstones included.
    pub fn rows(&self, origin: &Origin) -> impl Iterator<Item = &Arc<Row>> {
        self.books.get(origin).into_iter().flat_map(|book| book.order.values())
    }

    #[must_use]
    pub fn row(&self, origin: &Origin, key: &Key) -> Option<&Arc<Row>> {
        self.books.get(origin)?.rows.get(key)
    }

    /// Tombstones of an origin that are not older than this version.
    #[must_use]
    pub fn graves_up_to(&self, origin: &Origin, version: u64) -> usize {
        self.books.get(origin).map_or(0, |book| book.graves.range(..=version).count())
    }

    /// What somebody lacks who has this of an origin; None if nothing.
    #[must_use]
    pub fn lacking(&self, origin: &Origin, have: Option<Point>) -> Option<Offer> {
        let book = self.books.get(origin)?;
        let head = &book.head.head;
        let after = have.filter(|have| head.continues(*have));
        if after == Some(head.point) || have.is_some_and(|have| have > head.point) {
            return None;
        }
        let after = after.map(|point| point.version);
        let rows = match after {
            Some(version) => book.order.range(version + 1..).map(|(_, row)| Arc::clone(row)).collect(),
            None => book.order.values().map(Arc::clone).collect(),
        };
        Some(Offer { head: book.head.clone(), after, rows })
    }

    /// Takes rows whose head has been verified. None: they were known.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub fn take(&mut self, offer: Offer) -> Result<Option<Applied>, Refusal> {
        let head = &offer.head.head;
        let origin = head.origin.clone();
        let book = self.books.get(&origin);
        if let Some(book) = book {
            let have = &book.head.head;
            if have.point > head.point {
                return Ok(None);
            }
            if have.point == head.point {
                let same = have.digest == head.digest && have.instance == head.instance;
                return if same { Ok(None) } else { Err(Refusal::Conflict(origin, head.point)) };
            }
        }
        self.judge_size(head, book)?;
        if offer.rows.windows(2).any(|pair| pair[0].version >= pair[1].version)
            || offer.rows.last().is_some_and(|last| last.version > head.point.version)
        {
            return Err(Refusal::Disorder(origin));
        }
        match offer.after {
            None => self.replace(origin, &offer),
            Some(after) => self.extend(origin, offer, after),
        }
        .map(Some)
    }

    /// Judged by the head alone, before a row of it is looked at.
    fn judge_size(&self, head: &Head, book: Option<&Book>) -> Result<(), Refusal> {
        let origin = || head.origin.clone();
        let (rows, weight) = book.map_or((0, 0), |book| (book.head.head.rows, book.head.head.weight));
        if book.is_none() && self.books.len() >= MOST_ORIGINS {
            return Err(Refusal::Origins(origin()));
        }
        // Who gets smaller is always welcome.
        for (what, has, had, total, limit, most) in [
            ("rows", head.rows, rows, self.rows, self.limits.rows, self.limits.total_rows),
            ("octets", head.weight, weight, self.weight, self.limits.weight, self.limits.total_weight),
        ] {
            if has > limit && has > had {
                return Err(Refusal::Quota { origin: origin(), what, limit });
            }
            if has > had && total.saturating_sub(had).saturating_add(has) > most {
                return Err(Refusal::Total { origin: origin(), what, limit: most });
            }
        }
        Ok(())
    }

    /// Rows after a version.
    fn extend(&mut self, origin: Origin, offer: Offer, after: u64) -> Result<Applied, Refusal> {
        let Some(book) = self.books.get_mut(&origin) else {
            // Nobody's rows but those of somebody new begin at the beginning.
            return if after == 0 {
                self.replace(origin, &offer)
            } else {
                Err(Refusal::Gap { have: Point::default() })
            };
        };
        let (head, have) = (&offer.head.head, book.head.head.point);
        if !head.continues(have) {
            return Err(Refusal::Fork);
        }
        if have.version < after {
            return Err(Refusal::Gap { have });
        }
        let fresh: Vec<_> = offer.rows.into_iter().filter(|row| row.version > have.version).collect();
        let mut sum = book.sum.clone();
        let mut tally = Tally { rows: head_rows(book), weight: book.head.head.weight };
        let mut keys = BTreeSet::new();
        for row in &fresh {
            if !keys.insert(&row.key) {
                return Err(Refusal::Disorder(origin));
            }
            if let Some(old) = book.rows.get(&row.key) {
                sum.subtract(&origin, old);
                tally.less(old);
            }
            sum.add(&origin, row);
            tally.more(row);
        }
        // Graves that were filled again are gone with the row that did it.
        let collected = |version: &u64| {
            let row = book.order.get(version).filter(|row| !keys.contains(&row.key));
            row.map(Arc::clone)
        };
        let gone: Vec<Arc<Row>> = book.graves.range(..=head.floor).filter_map(collected).collect();
        for row in &gone {
            sum.subtract(&origin, row);
            tally.less(row);
        }
        if sum.digest() != head.digest || tally != Tally::of(head) {
            return Err(Refusal::Fork);
        }
        (self.rows, self.weight) =
            (self.rows - book.head.head.rows + head.rows, self.weight - book.head.head.weight + head.weight);
        for row in &fresh {
            book.insert(row);
        }
        for row in &gone {
            book.remove(row);
        }
        book.head = offer.head;
        book.sum = sum;
        Ok(Applied { rows: fresh, gone })
    }

    /// All rows at once.
    fn replace(&mut self, origin: Origin, offer: &Offer) -> Result<Applied, Refusal> {
        let head = &offer.head.head;
        let mut book = Book::new(offer.head.clone());
        let mut tally = Tally::default();
        for row in &offer.rows {
            if row.is_tombstone() && row.version <= head.floor || book.rows.contains_key(&row.key) {
                return Err(Refusal::Disorder(origin));
            }
            book.sum.add(&origin, row);
            tally.more(row);
            book.insert(row);
        }
        if book.sum.digest() != head.digest || tally != Tally::of(head) {
            return Err(Refusal::Unproven(origin));
        }
        let before = self.books.get(&origin);
        let had = before.map_or((0, 0), |book| (book.head.head.rows, book.head.head.weight));
        (self.rows, self.weight) = (self.rows - had.0 + head.rows, self.weight - had.1 + head.weight);
        let is_new = |row: &&Arc<Row>| before.is_none_or(|book| book.rows.get(&row.key) != Some(row));
        let rows = offer.rows.iter().filter(is_new).map(Arc::clone).collect();
        let is_gone = |row: &&Arc<Row>| !book.rows.contains_key(&row.key);
        let gone = before.map_or_else(Vec::new, |old| old.order.values().filter(is_gone).cloned().collect());
        self.books.insert(origin, book);
        Ok(Applied { rows, gone })
    }

    /// What these changes would make of an origin's state, whose head is `before` now, perhaps in a new incarnation or
    /// with more of a past: rows with versions, and everything in the head that depends on them. Of several changes for
    /// one key the last counts. Also what changes nothing gets a version: elsewhere more may be known than here, and
    /// this was written after it. None if there is nothing to write, and floor and past stay too. It is written when it
    /// is taken.
    ///
    /// # Errors
    /// When it would be more than the limits allow. What replaces or deletes is never refused.
    pub fn prepare(&self, before: Head, changes: &[Change], floor: u64) -> Result<Option<Prepared>, Refusal> {
        let origin = before.origin.clone();
        let book = self.books.get(&origin);
        let last: BTreeMap<&Key, usize> =
            changes.iter().enumerate().map(|(at, change)| (&change.key, at)).collect();
        let mut sum = book.map_or_else(Sum::default, |book| book.sum.clone());
        let mut tally = book.map_or_else(Tally::default, |book| Tally {
            rows: head_rows(book),
            weight: book.head.head.weight,
        });
        let (mut version, mut grown, mut rows) = (before.point.version, false, Vec::new());
        let mut written = BTreeSet::new();
        for (at, change) in changes.iter().enumerate() {
            let old = book.and_then(|book| book.rows.get(&change.key));
            if last[&change.key] != at {
                continue;
            }
            written.insert(&change.key);
            if let Some(old) = old {
                sum.subtract(&origin, old);
                tally.less(old);
            }
            grown |= old.is_none_or(|old| old.is_tombstone()) && change.value.is_some();
            version += 1;
            let row = Arc::new(Row { key: change.key.clone(), version, value: change.value.clone() });
            sum.add(&origin, &row);
            tally.more(&row);
            rows.push(row);
        }
        let floor = floor.max(before.floor).min(before.point.version);
        for row in book.into_iter().flat_map(|book| book.graves.range(..=floor).map(|v| &book.order[v])) {
            if !written.contains(&row.key) {
                sum.subtract(&origin, row);
                tally.less(row);
            }
        }
        let goes_on = |book: &Book| book.head.head.point.incarnation == before.point.incarnation;
        let same = book.is_some_and(|book| goes_on(book) && book.head.head.lineage == before.lineage);
        if rows.is_empty() && floor == before.floor && same {
            return Ok(None);
        }
        // A head alone is a version of its own: whoever compares must see that something is different.
        let alone = rows.is_empty() && book.is_some_and(goes_on);
        let point = Point { version: version + u64::from(alone), ..before.point };
        let head =
            Head { point, floor, rows: tally.rows, weight: tally.weight, digest: sum.digest(), ..before };
        if grown {
            self.judge_size(&head, book)?;
        }
        Ok(Some((head, rows)))
    }
}

fn head_rows(book: &Book) -> u64 {
    book.head.head.rows
}

impl Book {
    fn new(head: Signed) -> Self {
        Self {
            head,
            sum: Sum::default(),
            rows: HashMap::new(),
            order: BTreeMap::new(),
            graves: BTreeSet::new(),
        }
    }

    fn insert(&mut self, row: &Arc<Row>) {
        if let Some(old) = self.rows.insert(row.key.clone(), Arc::clone(row)) {
            self.order.remove(&old.version);
            self.graves.remove(&old.version);
        }
        self.order.insert(row.version, Arc::clone(row));
        if row.is_tombstone() {
            self.graves.insert(row.version);
        }
    }

    fn remove(&mut self, row: &Row) {
        self.rows.remove(&row.key);
        self.order.remove(&row.version);
        self.graves.remove(&row.version);
    }
}

/// What a head says of its rows beside their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    rows: u64,
    weight: u64,
}

impl Tally {
    fn of(head: &Head) -> Self {
        Self { rows: head.rows, weight: head.weight }
    }

    fn more(&mut self, row: &Row) {
        self.rows += 1;
        self.weight += row.weight() as u64;
    }

    fn less(&mut self, row: &Row) {
        self.rows -= 1;
        self.weight -= row.weight() as u64;
    }
}

#[cfg(test)]
mod tests;
