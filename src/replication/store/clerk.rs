//! The order of the writes: our own at once and together, then others' in portions, then what can wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backup::Schedule;
use super::behind::{Behind, PORTION};
use super::place::Place;
use super::schema::is_damage;
use super::write::{Books, Database, Sure};
use super::{MOST_SLOT, MOST_SLOTS, Missed, StoreError, Work};
use crate::replication::head::Signed;
use crate::replication::record::{Key, Row};
use crate::replication::version::Origin;

/// So much is taken in before something is written.
const MOST_AT_ONCE: usize = 1_024;
/// A disk that failed is left alone for this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// What others said is on the disk after this time at the latest, power or not.
const SETTLE_AFTER: Duration = Duration::from_secs(10);
/// Longer than this the end of the process does not wait for what others said.
const MOST_FAREWELL: Duration = Duration::from_secs(2);

/// Owns the writing.
pub(super) struct Clerk<'a> {
    place: &'a Place,
    identity: Option<(u64, u64)>,
    database: Database<'a>,
    urgent: Vec<Urgent>,
    behind: Behind,
    copying: Option<Copying>,
    missed: watch::Sender<Missed>,
    /// The disk failed, and is left alone until then.
    retry: Option<Instant>,
    complained: Option<Instant>,
    ailing: bool,
    /// Since when there is something in the log.
    unsettled: Option<Instant>,
}

/// What somebody waits for.
struct Urgent {
    what: Own,
    done: oneshot::Sender<Result<(), String>>,
}

enum Own {
    Rows { head: Box<Signed>, rows: Vec<Arc<Row>>, gone: Vec<Key> },
    Slot { name: String, value: Vec<u8> },
}

/// All rows of an origin, on their way into a book of their own.
struct Copying {
    head: Signed,
    book: i64,
    rows: Vec<Arc<Row>>,
    written: usize,
}

/// What became of a while of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum While {
    Passed,
    /// It is to end.
    Stopped,
}

impl<'a> Clerk<'a> {
    pub fn new(
        place: &'a Place,
        connection: &'a Connection,
        books: Books,
        missed: watch::Sender<Missed>,
    ) -> Self {
        Self {
            place,
            identity: place.identity(),
            database: Database::new(connection, books),
            urgent: Vec::new(),
            behind: Behind::default(),
            copying: None,
            missed,
            retry: None,
            complained: None,
            ailing: false,
            unsettled: None,
        }
    }

    /// Writes until `stop`, or until nobody sends any more.
    pub async fn run(
        mut self,
        fresh: bool,
        mut work: mpsc::Receiver<Work>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut schedule = Schedule::new(self.place, fresh);
        let result = loop {
            match self.serve(&mut work, stop, schedule.next()).await {
                Ok(While::Passed) => {}
                Ok(While::Stopped) => break self.farewell(&mut work),
                Err(error) => break Err(error),
            }
            if Instant::now() >= schedule.next() {
                match self.back_up(&mut work, stop).await {
                    Ok(made) => schedule.tried(made),
                    Err(error) => break Err(error),
                }
            }
        };
        if let Err(StoreError::Damaged(..)) = result {
            self.place.suspect_it();
        }
        result
    }

    pub fn place(&self) -> &'a Place {
        self.place
    }

    pub fn connection(&self) -> &'a Connection {
        self.database.connection()
    }

    /// Waits for work until a time at the most, and does what there is to do once.
    pub async fn serve(
        &mut self,
        work: &mut mpsc::Receiver<Work>,
        stop: &CancellationToken,
        until: Instant,
    ) -> Result<While, StoreError> {
        let deadline = self.next_deadline(Instant::now()).map_or(until, |deadline| deadline.min(until));
        select! {
            biased;
            () = stop.cancelled() => return Ok(While::Stopped),
            first = work.recv(), if self.takes() => match first {
                Some(first) => {
                    self.take(first)?;
                    self.take_waiting(work, MOST_AT_ONCE)?;
                }
                None => return Ok(While::Stopped),
            },
            () = sleep_until(deadline.into()) => {}
        }
        self.act(Instant::now())?;
        Ok(While::Passed)
    }

    /// With a disk that fails, what others say must not keep our own from being told so.
    fn takes(&self) -> bool {
        self.behind.has_room() || self.retry.is_some()
    }

    fn take_waiting(&mut self, work: &mut mpsc::Receiver<Work>, most: usize) -> Result<(), StoreError> {
        for _ in 0..most {
            let Some(next) = self.takes().then(|| work.try_recv().ok()).flatten() else { break };
            self.take(next)?;
        }
        Ok(())
    }

    fn take(&mut self, work: Work) -> Result<(), StoreError> {
        match work {
            Work::Own { head, rows, gone, done } => {
                let head = Box::new(head);
                self.urgent.push(Urgent { what: Own::Rows { head, rows, gone }, done });
            }
            Work::Slot { name, value, done } => {
                let slots = &mut self.database.books.slots;
                if value.len() > MOST_SLOT {
                    let _ =
                        done.send(Err(format!("`{name}` is longer than the {MOST_SLOT} octets of a slot")));
                } else if slots.len() >= MOST_SLOTS && !slots.contains(&name) {
                    let _ =
                        done.send(Err(format!("`{name}` is one more than the {MOST_SLOTS} slots there are")));
                } else {
                    slots.insert(name.clone());
                    self.urgent.push(Urgent { what: Own::Slot { name, value }, done });
                }
            }
            Work::Remote { head, rows, whole, gone } => {
                // What was said of our own rows before is older than this.
                if self.urgent.iter().any(|urgent| urgent.what.origin() == Some(&head.head.origin)) {
                    self.write_urgent()?;
                }
                if self.is_missed(&head.head.origin, whole) {
                    return Ok(());
                }
                self.behind.put(head, rows, whole, gone, Instant::now());
            }
        }
        Ok(())
    }

    /// Whether this is left out: there is no room for it, or for something before it. What is on the disk of its
    /// origin is old then, and whole.
    fn is_missed(&mut self, origin: &Origin, whole: bool) -> bool {
        let (full, was) = (!self.behind.has_room(), self.missed.borrow().contains(origin));
        let is = full || (was && !whole);
        if is {
            self.behind.forget(origin);
        }
        if is != was {
            self.missed.send_modify(|missed| {
                let missed = Arc::make_mut(missed);
                if is {
                    missed.insert(origin.clone())
                } else {
                    missed.remove(origin)
                };
            });
        }
        is
    }

    /// When there is something to do without further work.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if !self.urgent.is_empty() {
            return Some(now);
        }
        let waiting = if self.copying.is_some() { Some(now) } else { self.behind.due() };
        let sweep = self.database.has_forsaken().then_some(now);
        let settle = self.unsettled.map(|since| since + SETTLE_AFTER);
        let earliest = [waiting, sweep, settle].into_iter().flatten().min()?;
        Some(self.retry.map_or(earliest, |retry| retry.max(earliest)))
    }

    fn act(&mut self, now: Instant) -> Result<(), StoreError> {
        self.write_urgent()?;
        if self.retry.is_some_and(|retry| now < retry) {
            return Ok(());
        }
        let written = if self.copying.is_some() || self.behind.due().is_some_and(|due| due <= now) {
            self.write_portion()
        } else if self.database.has_forsaken() {
            self.database.sweep()
        } else {
            Ok(())
        };
        let settled = written.and_then(|()| {
            let late = self.unsettled.is_some_and(|since| since + SETTLE_AFTER <= now);
            if late || self.database.is_log_long() { self.database.settle() } else { Ok(()) }
        });
        if self.unsettled.is_some() && !self.database.unsettled() {
            self.is_there()?;
        }
        self.unsettled = self.database.unsettled().then(|| self.unsettled.unwrap_or(now));
        self.judge(settled)
    }

    /// What became of writing that nobody waits for.
    fn judge(&mut self, written: rusqlite::Result<()>) -> Result<(), StoreError> {
        let Err(error) = written else {
            self.retry = None;
            if std::mem::take(&mut self.ailing) {
                info!("{} is written again", self.place.database().display());
            }
            return Ok(());
        };
        let path = self.place.database();
        if is_damage(&error) {
            return Err(StoreError::Damaged(path, error.to_string()));
        }
        let now = Instant::now();
        self.retry = Some(now + RETRY_AFTER);
        if self.complained.is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY) {
            self.complained = Some(now);
            self.ailing = true;
            warn!(
                "{}; what other POPs said stays in memory and is written later",
                StoreError::Database(path, error)
            );
        }
        Ok(())
    }

    /// A part of what others said.
    fn write_portion(&mut self) -> rusqlite::Result<()> {
        if self.copying.is_none() {
            if self.behind.is_whole() {
                let Some(waiting) = self.behind.take() else { return Ok(()) };
                let rows = waiting.rows.into_values().flatten().collect();
                let book = self.database.books.next();
                self.copying = Some(Copying { head: waiting.head, book, rows, written: 0 });
            } else {
                let mut count = 0;
                let (behind, database) = (&self.behind, &mut self.database);
                database.transaction(Sure::System, |page| -> rusqlite::Result<()> {
                    for waiting in behind.portion() {
                        let gone = waiting.rows.iter().filter(|(_, row)| row.is_none()).map(|(key, _)| key);
                        page.change(&waiting.head, waiting.rows.values().flatten(), gone)?;
                        count += 1;
                    }
                    Ok(())
                })?;
                self.behind.written(count);
            }
        }
        let Some(copying) = &mut self.copying else { return Ok(()) };
        let end = copying.rows.len().min(copying.written + PORTION);
        let (head, book) = (&copying.head, copying.book);
        let last = end == copying.rows.len();
        self.database.transaction(Sure::System, |page| -> rusqlite::Result<()> {
            page.fill(book, copying.rows[copying.written..end].iter())?;
            if last { page.name(head, book) } else { Ok(()) }
        })?;
        copying.written = end;
        if last {
            self.database.books.replace(&head.head.origin, book);
            self.copying = None;
        }
        Ok(())
    }

    /// All that waits of one origin.
    fn write_all_of(&mut self, origin: &Origin) -> rusqlite::Result<()> {
        while self.copying.as_ref().is_some_and(|copying| copying.head.head.origin == *origin)
            || self.behind.has(origin)
        {
            self.behind.hurry(origin);
            self.write_portion()?;
        }
        Ok(())
    }

    /// What somebody waits for, together; then they are told.
    fn write_urgent(&mut self) -> Result<(), StoreError> {
        if self.urgent.is_empty() {
            return Ok(());
        }
        let urgent = std::mem::take(&mut self.urgent);
        let origins: Vec<&Origin> = urgent.iter().filter_map(|urgent| urgent.what.origin()).collect();
        let before = origins.into_iter().try_for_each(|origin| self.write_all_of(origin));
        let written = before.and_then(|()| {
            self.database.transaction(Sure::Disk, |page| -> rusqlite::Result<()> {
                urgent.iter().try_for_each(|urgent| match &urgent.what {
                    Own::Rows { head, rows, gone } => page.change(head, rows.iter(), gone.iter()),
                    Own::Slot { name, value } => page.slot(name, value),
                })
            })
        });
        let path = self.place.database();
        let result = match written {
            Ok(()) => self.is_there(),
            Err(error) if is_damage(&error) => Err(StoreError::Damaged(path, error.to_string())),
            Err(error) => Err(StoreError::Database(path, error)),
        };
        let told = result.as_ref().copied().map_err(ToString::to_string);
        for urgent in urgent {
            let _ = urgent.done.send(told.clone());
        }
        match result {
            Err(error @ (StoreError::Damaged(..) | StoreError::Removed(_))) => Err(error),
            _ => Ok(()),
        }
    }

    /// Into a file that has lost its name, everything can be written.
    fn is_there(&self) -> Result<(), StoreError> {
        let there = self.place.identity() == self.identity;
        if there { Ok(()) } else { Err(StoreError::Removed(self.place.database())) }
    }

    /// Writes what was sent before the end.
    fn farewell(&mut self, work: &mut mpsc::Receiver<Work>) -> Result<(), StoreError> {
        work.close();
        let end = Instant::now() + MOST_FAREWELL;
        loop {
            self.take_waiting(work, MOST_AT_ONCE)?;
            self.write_urgent()?;
            let more = self.copying.is_some() || !self.behind.is_empty();
            if !more && work.is_empty() {
                break;
            }
            let written = if more { self.write_portion() } else { Ok(()) };
            if written.is_err() || Instant::now() >= end {
                self.judge(written)?;
                warn!(
                    "the last words of other POPs are not written; they are asked for again at the next start"
                );
                break;
            }
        }
        let settled = self.database.settle();
        self.judge(settled)
    }
}

impl Own {
    fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Rows { head, .. } => Some(&head.head.origin),
            Self::Slot { .. } => None,
        }
    }
}
