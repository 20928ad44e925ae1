//! The newest entries in memory, in a shape that is cheap to publish.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::{CauseId, Entry};
use crate::observe::status::JournalStatus;

/// So many entries are in memory at least, once there have been as many.
pub const KEPT: usize = 4_096;

/// A publication shares all chunks; adding to a shared last chunk copies that one.
const CHUNK: usize = 64;

/// The newest entries, oldest first; their `seq` only grows.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    chunks: VecDeque<Arc<Vec<Entry>>>,
    /// As of this publication.
    pub status: JournalStatus,
}

impl Recent {
    /// Adds the newest; the oldest go when there are more than [`KEPT`].
    pub fn push(&mut self, entry: Entry) {
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(entry),
            _ => self.chunks.push_back(Arc::new(vec![entry])),
        }
        if self.chunks.len() > KEPT / CHUNK + 1 {
            self.chunks.pop_front();
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Those after `seq`; chunks before it are not searched.
    pub fn after(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        let chunks = self.chunks.iter().filter(move |chunk| chunk.last().is_some_and(|last| last.seq > seq));
        chunks.flat_map(|chunk| chunk.iter()).filter(move |entry| entry.seq > seq)
    }

    /// Entries about a prefix after `seq`: those that name it, and those of the same cause that name no other.
    /// Among them are older ones, such as a verdict, if their cause led to this prefix only after `seq`.
    pub fn about(&self, prefix: &str, seq: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        let names = move |entry: &Entry| entry.event.prefix() == Some(prefix);
        let (mut before, mut since) = (BTreeSet::<CauseId>::new(), BTreeSet::new());
        for entry in self.iter().filter(|entry| names(entry)) {
            let causes = if entry.seq > seq { &mut since } else { &mut before };
            causes.extend(entry.cause);
        }
        let another = move |entry: &Entry| entry.event.prefix().is_some_and(|named| named != prefix);
        self.iter().filter(move |entry| !another(entry)).filter(move |entry| {
            let (told, new) = entry.cause.map_or((false, false), |cause| {
                let told = before.contains(&cause);
                (told, !told && since.contains(&cause))
            });
            new || entry.seq > seq && (told || names(entry))
        })
    }

    /// The number of the oldest; 0 without any.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.iter().next().map_or(0, |entry| entry.seq)
    }

    /// The number of the newest; 0 without any.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.iter().next_back().map_or(0, |entry| entry.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::journal::Event;
    use crate::observe::samples::{decision, entry, verdict};

    fn seqs<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u64> {
        entries.into_iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn the_oldest_go_and_publications_stay_as_they_were() {
        let mut recent = Recent::default();
        assert_eq!((recent.first_seq(), recent.last_seq()), (0, 0));
        for seq in 1..=100 {
            recent.push(entry(seq, None, Event::Stopped));
        }
        let published = recent.clone();
        for seq in 101..=10_000 {
            recent.push(entry(seq, None, Event::Stopped));
        }
        assert_eq!(seqs(published.iter()), Vec::from_iter(1..=100));
        assert_eq!(recent.last_seq(), 10_000);
        let kept = recent.iter().count();
        assert!((KEPT..=KEPT + CHUNK).contains(&kept), "{kept}");
        assert_eq!(seqs(recent.after(9_997)), [9_998, 9_999, 10_000]);
        assert_eq!(recent.after(0).count(), kept);
    }

    #[test]
    fn a_prefix_is_told_with_its_causes() {
        let (a, b) = ("198.51.100.0/24", "203.0.113.0/24");
        let mut recent = Recent::default();
        for entry in [
            entry(1, Some("10"), verdict("web-1", "down")),
            entry(2, Some("10"), decision(a, "withdrawn")),
            entry(3, Some("11"), verdict("web-2", "down")),
            entry(4, Some("11"), decision(b, "withdrawn")),
            // The same cause, another prefix.
            entry(5, Some("10"), decision(b, "withdrawn")),
            entry(6, Some("10"), verdict("web-1", "up")),
            entry(7, None, Event::Stopped),
            entry(8, None, decision(a, "announced")),
        ] {
            recent.push(entry);
        }
        assert_eq!(seqs(recent.about(a, 0)), [1, 2, 6, 8]);
        assert_eq!(seqs(recent.about(b, 0)), [1, 3, 4, 5, 6]);
        assert_eq!(seqs(recent.about(a, 2)), [6, 8], "what was told is not told again");
        assert_eq!(
            seqs(recent.about(a, 1)),
            [1, 2, 6, 8],
            "nobody could know that the verdict belongs to it"
        );
        assert_eq!(seqs(recent.about("192.0.2.0/24", 0)), [0; 0]);
    }
}
