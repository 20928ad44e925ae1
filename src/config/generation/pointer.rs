//! The small document that says which stored generation is confirmed, and which ones were.

use std::path::PathBuf;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// So many texts are kept, the confirmed one among them.
pub const MOST_TEXTS: usize = 20;

/// One stored text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub generation: u64,
    /// Where relative paths of secrets begin: the directory of the file that the text came from.
    pub base: PathBuf,
    /// Of the text, in hex. A torn text may still be a valid configuration: this tells.
    pub sha256: String,
}

/// What a restart must know. INVARIANT: `history` is sorted by generation, the newest first, without the
/// confirmed one, and no generation in it is over `highest`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pointer {
    /// What a start uses.
    pub confirmed: Option<Entry>,
    /// What was confirmed once and is still stored.
    pub history: Vec<Entry>,
    /// The highest generation that was ever confirmed: the next one must be greater.
    pub highest: u64,
    /// What was put in force for a time and perhaps never confirmed: a start does not take it by itself.
    pub unconfirmed: Option<Entry>,
}

impl Pointer {
    /// Confirms an entry: a new one, or one of the history.
    pub fn confirm(&mut self, entry: Entry) {
        self.highest = self.highest.max(entry.generation);
        self.unconfirmed.take_if(|tried| tried.generation <= entry.generation);
        self.history.extend(self.confirmed.take());
        self.history.retain(|known| known.generation != entry.generation);
        self.history.sort_by_key(|known| std::cmp::Reverse(known.generation));
        self.history.truncate(MOST_TEXTS - 1);
        self.confirmed = Some(entry);
    }

    /// The confirmed entry, then the others from the newest on.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.confirmed.iter().chain(&self.history)
    }

    /// The newest stored generation that is older than `generation`.
    #[must_use]
    pub fn before(&self, generation: u64) -> Option<&Entry> {
        self.history.iter().find(|entry| entry.generation < generation)
    }
}

/// The SHA-256 of a text, in hex.
#[must_use]
pub fn sha256(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(generation: u64) -> Entry {
        Entry { generation, base: "/etc/edgeproxy".into(), sha256: sha256(&generation.to_be_bytes()) }
    }

    fn generations(pointer: &Pointer) -> Vec<u64> {
        pointer.entries().map(|entry| entry.generation).collect()
    }

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn confirming_remembers_what_was_before_it() {
        let mut pointer = Pointer::default();
        for generation in [3, 5, 9] {
            pointer.confirm(entry(generation));
        }
        assert_eq!(generations(&pointer), [9, 5, 3]);
        assert_eq!(pointer.before(9), Some(&entry(5)));
        assert_eq!(pointer.before(3), None);

        // Back to an older one: the way back to the newer stays open, and the highest stays.
        pointer.confirm(entry(5));
        assert_eq!((generations(&pointer), pointer.highest), (vec![5, 9, 3], 9));
        assert_eq!(pointer.before(5), Some(&entry(3)));
        pointer.confirm(entry(3));
        assert_eq!((pointer.before(3), pointer.highest), (None, 9));
    }

    #[test]
    fn the_history_has_a_bound() {
        let mut pointer = Pointer::default();
        pointer.confirm(entry(1));
        for generation in 2..=40 {
            pointer.confirm(entry(generation));
        }
        assert_eq!(pointer.entries().count(), MOST_TEXTS);
        assert_eq!(pointer.history.last(), Some(&entry(21)));
    }

    #[test]
    fn what_was_only_tried_is_forgotten_by_something_newer() {
        let tried = |confirmed: u64| {
            let mut pointer = Pointer { unconfirmed: Some(entry(9)), ..Pointer::default() };
            pointer.confirm(entry(confirmed));
            pointer.unconfirmed.is_some()
        };
        assert_eq!([tried(8), tried(9), tried(10)], [true, false, false]);
    }
}
