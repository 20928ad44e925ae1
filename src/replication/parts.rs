//! Rows of an answer that was cut off: the next question goes on after them, whoever is asked.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::merge::Offer;
use super::version::{Origin, Point};

/// How many are kept, and for how long.
const MOST: usize = 4;
const KEPT: Duration = Duration::from_secs(60);

/// The first rows of answers, by origin. None of them is believed before the rest has come and all add up.
#[derive(Debug, Default)]
pub struct Parts {
    parts: BTreeMap<Origin, Part>,
}

#[derive(Debug)]
struct Part {
    offer: Offer,
    until: Instant,
}

impl Part {
    fn reached(&self) -> Option<u64> {
        self.offer.rows.last().map(|row| row.version)
    }
}

impl Parts {
    /// What to say that we have of an origin, instead of this.
    #[must_use]
    pub fn reached(&self, origin: &Origin, have: Option<Point>) -> Option<Point> {
        let part = self.parts.get(origin)?;
        let (reached, have) = (part.reached()?, have.map_or(0, |have| have.version));
        let goes_on = part.offer.after.is_none_or(|after| after <= have) && have < reached;
        goes_on.then_some(Point { version: reached, ..part.offer.head.head.point })
    }

    /// Keeps rows that came; `head` is their origin's.
    pub fn keep(&mut self, part: Offer, now: Instant) {
        let origin = part.head.head.origin.clone();
        let (offer, _) = self.join(part);
        if self.parts.len() < MOST && !offer.rows.is_empty() {
            self.parts.insert(origin, Part { offer, until: now + KEPT });
        }
    }

    /// An answer with what is kept before it, and whether anything is.
    #[must_use]
    pub fn join(&mut self, offer: Offer) -> (Offer, bool) {
        let Some(part) = self.parts.remove(&offer.head.head.origin) else { return (offer, false) };
        if offer.after.is_none() || offer.after != part.reached() {
            return (offer, false);
        }
        let Offer { head, rows: rest, .. } = offer;
        // What was written anew meanwhile is in the rest, and so is what was deleted.
        let written: HashSet<_> = rest.iter().map(|row| &row.key).collect();
        let floor = head.head.floor;
        let stays = |row: &&Arc<_>| is_there(row, floor) && !written.contains(&row.key);
        let mut rows: Vec<_> = part.offer.rows.iter().filter(stays).cloned().collect();
        drop(written);
        rows.extend(rest);
        (Offer { head, after: part.offer.after, rows }, true)
    }

    /// It was of no use.
    pub fn forget(&mut self, origin: &Origin) {
        self.parts.remove(origin);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.parts.retain(|_, part| part.until > now);
    }
}

/// Tombstones up to the floor are collected.
fn is_there(row: &super::record::Row, floor: u64) -> bool {
    !row.is_tombstone() || row.version > floor
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::head;
    use super::super::head::{Head, SIGNATURE, Signed};
    use super::super::record::{Key, Row, Table, Value};
    use super::*;

    fn offer(point: Point, floor: u64, after: Option<u64>, rows: &[(&str, u64, bool)]) -> Offer {
        let head = Head { point, floor, ..head(1, 0) };
        let row = |(key, version, lives): &(&str, u64, bool)| {
            let value = lives.then(|| Value::new(1, 1, b"x").unwrap());
            Arc::new(Row { key: Key::new(Table(9), key.as_bytes()).unwrap(), version: *version, value })
        };
        let rows = rows.iter().map(row).collect();
        Offer {
            head: Signed { head, certificate: Vec::new().into(), signature: [0; SIGNATURE] },
            after,
            rows,
        }
    }

    fn versions(offer: &Offer) -> Vec<u64> {
        offer.rows.iter().map(|row| row.version).collect()
    }

    #[test]
    fn the_next_question_goes_on_where_the_answer_was_cut() {
        let (now, mut parts) = (Instant::now(), Parts::default());
        let origin = head(1, 0).origin;
        parts
            .keep(offer(Point::new(7, 90), 0, None, &[("a", 3, true), ("b", 5, true), ("c", 8, false)]), now);
        assert_eq!(parts.reached(&origin, None), Some(Point::new(7, 8)));
        assert_eq!(parts.reached(&origin, Some(Point::new(7, 8))), None, "nothing is left to go on with");
        // Cut again.
        parts.keep(offer(Point::new(7, 91), 0, Some(8), &[("d", 20, true)]), now);
        assert_eq!(parts.reached(&origin, None), Some(Point::new(7, 20)));
        // Meanwhile `a` was written anew, and everybody has seen that `c` is gone.
        let rest = offer(Point::new(7, 95), 10, Some(20), &[("e", 90, true), ("a", 95, true)]);
        let (all, joined) = parts.join(rest);
        assert!(joined);
        assert_eq!((all.after, versions(&all)), (None, vec![5, 20, 90, 95]));
        assert_eq!(parts.reached(&origin, None), None);
    }

    #[test]
    fn what_does_not_go_on_stands_alone() {
        let (now, mut parts) = (Instant::now(), Parts::default());
        let part = offer(Point::new(7, 90), 0, None, &[("a", 3, true)]);
        for after in [None, Some(4)] {
            parts.keep(part.clone(), now);
            let other = offer(Point::new(9, 95), 0, after, &[("e", 90, true)]);
            assert_eq!(parts.join(other.clone()), (other, false));
        }
        parts.keep(part, now);
        parts.handle_timeout(now + KEPT);
        assert_eq!(parts.reached(&head(1, 0).origin, None), None);
    }
}
