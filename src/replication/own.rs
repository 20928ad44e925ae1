//! What this POP says of itself: in which incarnation it writes, and whether it may.

use super::head::{Head, MOST_LINEAGE};
use super::version::{Origin, Point};

/// The writer of our own rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    origin: Origin,
    instance: u64,
    born: u64,
    incarnation: u64,
    /// Who wrote last what we stepped over: it lives if it steps over us in turn.
    suspect: Option<u64>,
    rival: Option<Rival>,
}

/// Another process that writes under our name, and was there before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival {
    pub instance: u64,
    pub born: u64,
}

/// What a head of our own name that we did not write means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// We wrote it, or something after it.
    Old,
    /// Something else is known of us than we know: a database that was lost or rolled back. What it says is to be taken
    /// over, in an incarnation above it, which has begun.
    Lost,
    /// Another process writes under our name. It is the younger one and has to stop; we write above it.
    Younger,
    /// Another process writes under our name and was there first: we write nothing any more.
    Elder,
}

impl Own {
    /// A run of the process that continues what the database has. `stored` is the highest incarnation that was ever
    /// begun, `instance` a random number.
    #[must_use]
    pub fn begin(origin: Origin, stored: u64, head: Option<&Head>, instance: u64) -> Self {
        let last = head.map_or(0, |head| head.point.incarnation);
        let incarnation = Point::incarnation_after(stored.max(last), instance);
        Self { origin, instance, born: incarnation, incarnation, suspect: None, rival: None }
    }

    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The one that is written in. It must be on disk before anybody sees a head of it.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Who has our name, if we keep silent for it.
    #[must_use]
    pub fn rival(&self) -> Option<Rival> {
        self.rival
    }

    /// The head to write after: what the ledger has, in our incarnation.
    #[must_use]
    pub fn head(&self, ledger: Option<&Head>) -> Head {
        let empty = || Head {
            origin: self.origin.clone(),
            point: Point::default(),
            floor: 0,
            born: 0,
            instance: 0,
            lineage: Vec::new(),
            rows: 0,
            weight: 0,
            digest: [0; 32],
        };
        let last = ledger.cloned().unwrap_or_else(empty);
        let point = Point { incarnation: self.incarnation, version: last.point.version };
        let mut head = Head { point, born: self.born, instance: self.instance, ..last.clone() };
        if last.point.incarnation != self.incarnation && ledger.is_some() {
            remember(&mut head.lineage, [last.point]);
        }
        head
    }

    /// The head to write after when another history of ours, which ends with `theirs`, becomes part of this one: above
    /// both ends.
    #[must_use]
    pub fn head_above(&self, ledger: Option<&Head>, theirs: &Head) -> Head {
        let mut head = self.head(ledger);
        head.point.version = head.point.version.max(theirs.point.version);
        remember(&mut head.lineage, theirs.lineage.iter().copied().chain([theirs.point]));
        head
    }

    /// A head of our name that came from elsewhere. `ours` is what the ledger has, `alone` whether nobody of the
    /// fleet has been heard yet in this run: then nobody can have heard of us either, and we are younger than
    /// whoever they know.
    pub fn handle_head(&mut self, seen: &Head, ours: Option<&Head>, alone: bool) -> Seen {
        if seen.instance == self.instance || ours.is_some_and(|ours| ours.holds(seen.point)) {
            return Seen::Old;
        }
        if seen.point.incarnation < self.incarnation {
            return Seen::Lost;
        }
        let before = (self.born, self.instance);
        self.incarnation = Point::incarnation_after(seen.point.incarnation, self.instance);
        let lives = self.suspect.replace(seen.instance) == Some(seen.instance);
        if alone {
            self.born = self.incarnation;
            return Seen::Lost;
        }
        // The dead do not answer: the first time, it may be no more than what is remembered of an earlier run.
        if !lives {
            return Seen::Lost;
        }
        if (seen.born, seen.instance) > before {
            return Seen::Younger;
        }
        self.rival = Some(Rival { instance: seen.instance, born: seen.born });
        Seen::Elder
    }

    /// The elder has gone, or an operator says that it is us: we may write again.
    pub fn forget_rival(&mut self) {
        self.rival = None;
        self.suspect = None;
    }
}

/// Incarnations that ended here, each where it went furthest, the oldest first.
fn remember(lineage: &mut Vec<Point>, ends: impl IntoIterator<Item = Point>) {
    for end in ends {
        match lineage.iter_mut().find(|known| known.incarnation == end.incarnation) {
            Some(known) => *known = end.max(*known),
            None => lineage.push(end),
        }
    }
    lineage.sort_unstable();
    let surplus = lineage.len().saturating_sub(MOST_LINEAGE);
    lineage.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::head;
    use super::*;

    fn own(stored: u64, instance: u64) -> Own {
        Own::begin(Origin::new("gru1").unwrap(), stored << 20, None, instance)
    }

    /// Written by a run that is over.
    fn past(count: u64, version: u64, instance: u64) -> Head {
        Head { instance, ..head(count << 20 | instance, version) }
    }

    #[test]
    fn every_start_is_an_incarnation_and_tells_where_the_last_one_ended() {
        let mut last = past(40, 90, 3);
        last.lineage = (1..=32).map(|n| Point::new(n << 20, n)).collect();
        let own = Own::begin(last.origin.clone(), 0, Some(&last), 1);
        let begun = own.head(Some(&last));
        assert_eq!((begun.point, begun.born), (Point::new(41 << 20 | 1, 90), 41 << 20 | 1));
        assert_eq!(begun.lineage.last(), Some(&last.point));
        assert!(begun.lineage.len() <= MOST_LINEAGE);
        assert!(
            begun.continues(Point::new(40 << 20 | 3, 80)) && !begun.continues(Point::new(40 << 20 | 4, 80))
        );
        // A start that wrote nothing counts too.
        assert_eq!(Own::begin(last.origin.clone(), 90 << 20, Some(&last), 1).incarnation() >> 20, 91);
    }

    #[test]
    fn who_lost_its_database_steps_over_what_is_known_of_it() {
        let mut own = own(0, 7);
        assert_eq!(own.handle_head(&past(9, 500, 3), None, true), Seen::Lost);
        assert_eq!((own.incarnation() >> 20, own.head(None).born), (10, own.incarnation()));
        assert_eq!(own.rival(), None);
    }

    #[test]
    fn of_two_that_live_exactly_the_younger_stops() {
        let mut elder = own(8, 3);
        // A machine with the same name, without a database, that heard of the elder at its first contact.
        let mut younger = own(0, 7);
        assert_eq!(younger.handle_head(&elder.head(None), None, true), Seen::Lost);
        assert_eq!(elder.handle_head(&younger.head(None), None, false), Seen::Lost);
        assert_eq!(younger.handle_head(&elder.head(None), None, false), Seen::Elder);
        assert!(younger.rival().is_some() && elder.rival().is_none());
        // Two clones of one machine that start at once: one of them.
        let (mut one, mut two) = (own(4, 10), own(4, 20));
        assert_eq!(two.handle_head(&one.head(None), None, false), Seen::Lost);
        assert_eq!(one.handle_head(&two.head(None), None, false), Seen::Lost);
        assert_eq!(two.handle_head(&one.head(None), None, false), Seen::Lost);
        assert_eq!(one.handle_head(&two.head(None), None, false), Seen::Younger);
        assert_eq!(two.handle_head(&one.head(None), None, false), Seen::Elder);
        assert_eq!(one.rival(), None);
    }

    #[test]
    fn what_is_remembered_of_the_dead_silences_nobody() {
        let mut own = own(0, 7);
        // One peer remembers less than the other; neither run lives.
        assert_eq!(own.handle_head(&past(8, 400, 3), None, true), Seen::Lost);
        assert_eq!(own.handle_head(&past(9, 500, 9), None, false), Seen::Lost);
        assert_eq!((own.rival(), own.incarnation() >> 20), (None, 10));
    }
}
