//! The far end of the journal: numbers what happened, writes it down and publishes it.
#![expect(clippy::disallowed_methods, reason = "driver: owns the journal's clock and waits for the disk")]

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::recent::{KEPT, Recent};
use super::store::Store;
use super::{Entry, Event, Note};
use crate::observe::status::JournalStatus;

/// Notes that may wait to be taken: a bad moment of a thousand prefixes at eight neighbors.
pub const NOTES: usize = 8_192;

/// How long after its first note a batch is taken: the rest of a story follows within this time, a flood is
/// written and published in few pieces, and meanwhile whoever notes wakes nobody.
const GATHER: Duration = Duration::from_millis(5);
/// How soon an idle keeper sees that it is to stop.
const TICK: Duration = Duration::from_millis(100);
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// A disk that failed is left alone for this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// The disk is given about so much at once.
const WRITE_BYTES: usize = 64 << 10;

/// Keeps the journal. Nobody waits for it, and nothing that a disk does ends it: entries are in memory then,
/// and those still there are written when the disk is back.
#[derive(Debug)]
pub struct Keeper {
    folder: PathBuf,
    notes: Receiver<Note>,
    no_room: Arc<AtomicU64>,
    publish: watch::Sender<Arc<Recent>>,
    recent: Recent,
    status: JournalStatus,
    /// The highest number given out.
    last_seq: u64,
    /// Up to here everything is on disk, or lost.
    written_seq: u64,
    store: Option<Store>,
    /// Whether the entries of earlier processes have been looked for.
    read_back: bool,
    retry: Instant,
    synced: Instant,
    complained: Option<Instant>,
    /// The last complaint still holds.
    ailing: bool,
}

impl Keeper {
    /// `notes` and `no_room` are the far end of a [`Journal`](super::Journal).
    #[must_use]
    pub fn new(
        folder: PathBuf,
        notes: Receiver<Note>,
        no_room: Arc<AtomicU64>,
        publish: watch::Sender<Arc<Recent>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            folder,
            notes,
            no_room,
            publish,
            recent: Recent::default(),
            status: JournalStatus::default(),
            last_seq: 0,
            written_seq: 0,
            store: None,
            read_back: false,
            retry: now,
            synced: now,
            complained: None,
            ailing: false,
        }
    }

    /// Blocks its thread until `stop`, or until all near ends are gone; what was noted before is written then.
    pub fn run(mut self, stop: &CancellationToken) {
        self.on_disk(|_, _| Ok(()));
        self.publish();
        loop {
            // Asked before notes are taken, so that whatever was noted before the stop is among them.
            let stopping = stop.is_cancelled();
            let first = self.notes.recv_timeout(if stopping { Duration::ZERO } else { TICK });
            let ending = stopping || first == Err(RecvTimeoutError::Disconnected);
            if let Ok(first) = first {
                if !stopping {
                    sleep(GATHER);
                }
                self.take(first);
            }
            self.write();
            self.publish();
            if ending || self.synced.elapsed() >= SYNC_EVERY {
                self.sync();
            }
            if ending {
                return;
            }
        }
    }

    /// Numbers a note and those that wait behind it.
    fn take(&mut self, first: Note) {
        let waiting: Vec<Note> = self.notes.try_iter().take(NOTES).collect();
        let lost = self.no_room.swap(0, Ordering::Relaxed);
        // They came when all that waits was there already.
        let lost = (lost > 0).then_some(Note { cause: None, event: Event::Lost { entries: lost } });
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        for Note { cause, event } in std::iter::once(first).chain(waiting).chain(lost) {
            if let Event::Lost { entries } = event {
                self.status.lost += entries;
            }
            self.last_seq += 1;
            self.recent.push(Entry { seq: self.last_seq, at_ms, cause, event: event.cut() });
        }
    }

    fn publish(&mut self) {
        self.recent.status = self.status;
        let known = |recent: &Recent| (recent.last_seq(), recent.status);
        let published = known(&self.publish.borrow());
        if published != known(&self.recent) {
            self.publish.send_replace(Arc::new(self.recent.clone()));
        }
    }

    /// Writes what is not written yet, if the disk takes it.
    fn write(&mut self) {
        let forgotten = self.recent.first_seq().saturating_sub(self.written_seq + 1);
        self.status.lost += forgotten;
        self.written_seq += forgotten;
        if self.written_seq < self.last_seq {
            self.on_disk(Self::append);
        }
    }

    fn append(&mut self, store: &mut Store) -> io::Result<()> {
        let mut entries = self.recent.after(self.written_seq).peekable();
        while entries.peek().is_some() {
            let (mut lines, mut count, mut last_seq) = (Vec::new(), 0, 0);
            while lines.len() < WRITE_BYTES
                && let Some(entry) = entries.next()
            {
                serde_json::to_writer(&mut lines, entry)?;
                lines.push(b'\n');
                count += 1;
                last_seq = entry.seq;
            }
            store.append(&lines)?;
            self.written_seq = last_seq;
            self.status.written += count;
        }
        Ok(())
    }

    fn sync(&mut self) {
        if self.store.as_ref().is_some_and(Store::unsynced) {
            self.synced = Instant::now();
            self.on_disk(|_, store| store.sync());
        }
    }

    /// Lets `act` use the store, which is opened if need be; after an error the disk is left alone for a while.
    fn on_disk(&mut self, act: impl FnOnce(&mut Self, &mut Store) -> io::Result<()>) {
        let store = match self.store.take() {
            Some(store) => Ok(store),
            None if Instant::now() < self.retry => return,
            None => self.open(),
        };
        match store.and_then(|mut store| act(self, &mut store).map(|()| store)) {
            Ok(store) => {
                self.store = Some(store);
                if std::mem::take(&mut self.ailing) {
                    info!("the journal is written to {} again", self.folder.display());
                }
            }
            Err(error) => {
                self.retry = Instant::now() + RETRY_AFTER;
                self.complain(&error);
            }
        }
    }

    fn open(&mut self) -> io::Result<Store> {
        let store = Store::open(&self.folder)?;
        if !std::mem::replace(&mut self.read_back, true) {
            let found = store.read_back(KEPT);
            if self.last_seq == 0 {
                found.entries.into_iter().for_each(|entry| self.recent.push(entry));
            } else {
                // The disk came late: these numbers are taken there, so what has them stays in memory only.
                let taken = self.recent.iter().take_while(|entry| entry.seq <= found.last_seq).count();
                self.status.lost += taken as u64;
            }
            self.last_seq = self.last_seq.max(found.last_seq);
            self.written_seq = self.written_seq.max(found.last_seq);
        }
        Ok(store)
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            self.ailing = true;
            warn!(
                "the journal cannot be written to {}: {error}; the last {KEPT} entries stay in memory and are \
                 written when the disk is back: nothing else depends on it",
                self.folder.display()
            );
        }
    }
}

#[cfg(test)]
mod tests;
