//! What happened and why: the entries of the journal, and the ids that tie an effect to its cause.

pub mod keeper;
pub mod recent;
pub mod store;

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::{Deserialize, Serialize};

/// What first made something happen: a verdict, a command, a timer. Every entry that follows from it carries
/// the same id, so that an UPDATE can be followed back to the probe behind it. Unique over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CauseId(u64);

impl fmt::Display for CauseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for CauseId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl From<CauseId> for String {
    fn from(id: CauseId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for CauseId {
    type Error = ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Gives out ids. Each room has its own, so that nothing is shared between threads.
#[derive(Debug, Clone)]
pub struct CauseIds {
    next: u64,
}

impl CauseIds {
    /// Rooms that may give out ids side by side.
    pub const ROOMS: u64 = 8;

    /// The ids of room `room` (under [`ROOMS`](Self::ROOMS)) of a process that started at `started`, in
    /// seconds of the Unix epoch: two processes started in different seconds never share an id while
    /// neither gives out more than two million of them a second of its life.
    #[must_use]
    pub fn new(started: u64, room: u64) -> Self {
        Self { next: (started << 24).wrapping_add(room % Self::ROOMS) }
    }

    /// The next id.
    #[must_use = "an id that nobody writes down ties nothing"]
    pub fn next_id(&mut self) -> CauseId {
        let id = CauseId(self.next);
        self.next = self.next.wrapping_add(Self::ROOMS);
        id
    }
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Grows by one with every entry, over restarts too.
    pub seq: u64,
    /// Wall clock, in milliseconds of the Unix epoch. Not in order where the clock was set back; `seq` is.
    pub at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseId>,
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The process began to run.
    Started { version: String, generation: u64 },
    /// A planned stop is complete.
    Stopped,
    /// A backend's verdict changed: `up`, `down` or `unproven`.
    Verdict { service: String, backend: String, target: String, verdict: String, error: Option<String> },
    /// A prefix is judged otherwise: the names are those of the status documents.
    Decision { prefix: String, state: String, before: String, reason: String, why: String },
    /// A neighbor was sent an UPDATE; without a route it was a withdrawal.
    Update { neighbor: String, prefix: String, route: Option<Arc<Route>> },
    /// A session came up or ended; the words say how.
    Session { neighbor: String, up: bool, words: String },
    /// An operator's command, or the end of its window; `accepted` is false if it was refused.
    Operator { command: String, words: String, accepted: bool },
    /// Entries that found no room.
    Lost { entries: u64 },
}

impl Event {
    /// A free text is cut here, so that an entry has a bound.
    const TEXT_CHARS: usize = 2_000;

    /// The prefix that it names.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        match self {
            Self::Decision { prefix, .. } | Self::Update { prefix, .. } => Some(prefix),
            _ => None,
        }
    }

    /// The same with no free text longer than 2,000 characters.
    #[must_use]
    pub fn cut(mut self) -> Self {
        let text = match &mut self {
            Self::Verdict { error: Some(text), .. }
            | Self::Decision { why: text, .. }
            | Self::Session { words: text, .. }
            | Self::Operator { words: text, .. } => text,
            _ => return self,
        };
        if let Some((end, _)) = text.char_indices().nth(Self::TEXT_CHARS) {
            text.truncate(end);
            text.push('…');
        }
        self
    }
}

/// Path attributes as they were sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub next_hop: String,
    pub as_path: Vec<u32>,
    pub med: Option<u32>,
    pub communities: Vec<String>,
    pub large_communities: Vec<String>,
}

/// Something that happened, on its way to the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    pub cause: Option<CauseId>,
    pub event: Event,
}

/// The near end of the journal. Writing to it never waits: where there is no room, the note is lost and
/// counted, and the journal says so itself.
#[derive(Debug, Clone)]
pub struct Journal {
    notes: SyncSender<Note>,
    lost: Arc<AtomicU64>,
}

impl Journal {
    /// Both ends of a journal that holds `room` notes until they are written.
    #[must_use]
    pub fn new(room: usize) -> (Self, Receiver<Note>, Arc<AtomicU64>) {
        let (notes, written) = sync_channel(room);
        let lost = Arc::new(AtomicU64::new(0));
        (Self { notes, lost: lost.clone() }, written, lost)
    }

    /// Notes what happened.
    pub fn note(&self, cause: Option<CauseId>, event: Event) {
        if self.notes.try_send(Note { cause, event }).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_rooms_and_starts_differ() {
        let mut all: Vec<CauseId> = Vec::new();
        for started in [1_000, 1_001] {
            for room in 0..CauseIds::ROOMS {
                let mut ids = CauseIds::new(started, room);
                all.extend((0..100).map(|_| ids.next_id()));
            }
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn an_entry_is_one_flat_line() {
        let mut ids = CauseIds::new(1, 2);
        let event = Event::Session { neighbor: "a".into(), up: true, words: "x".into() };
        let entry = Entry { seq: 7, at_ms: 8, cause: Some(ids.next_id()), event };
        let line = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            line,
            r#"{"seq":7,"at_ms":8,"cause":"1000002","event":"session","neighbor":"a","up":true,"words":"x"}"#
        );
        assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
    }

    #[test]
    fn an_entry_has_a_bound() {
        let words = "é".repeat(1_000_000);
        let event = Event::Operator { command: "reload".into(), words, accepted: false }.cut();
        let Event::Operator { words, .. } = event else { panic!("{event:?}") };
        assert_eq!(words.chars().count(), 2_001);
    }
}
