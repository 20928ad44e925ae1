//! The durable copy: the rows of every origin and what this POP must not forget, in one SQLite database.
//!
//! One thread owns it. What this POP says itself is on the disk before it is acknowledged; what others said is
//! written behind, in batches, and comes back from them if it is lost.
//!
//! INVARIANT: whenever the process ends, the database holds, of every origin, rows that add up to the head beside them.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: owns the database, its folder and the time of its writes"
)]

mod aside;
mod backup;
mod behind;
mod clerk;
mod dump;
mod load;
mod place;
mod restore;
mod schema;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::load::{Contents, Fault};
use self::place::Place;
use self::write::Books;
use super::head::Signed;
use super::record::{Key, Row};
use super::version::Origin;

pub use self::dump::{Dumped, dump};
pub use self::restore::{Restored, restore};

/// Octets of the longest slot.
pub const MOST_SLOT: usize = 4 << 20;
/// Slots that are kept.
pub const MOST_SLOTS: usize = 64;

/// What is to be written. Of one origin in the order in which it was sent. No key is both in `rows` and in `gone`.
#[derive(Debug)]
pub enum Work {
    /// Our own rows. All that waits goes to the disk together, and `done` is told afterwards, or in words why it is
    /// not there; then nothing of it is, and nothing is tried again. A sender that is dropped untold means that too.
    Own { head: Signed, rows: Vec<Arc<Row>>, gone: Vec<Key>, done: oneshot::Sender<Result<(), String>> },
    /// Something of ours beside the rows, under a name of its own: at most [`MOST_SLOTS`], of [`MOST_SLOT`] octets.
    Slot { name: String, value: Vec<u8>, done: oneshot::Sender<Result<(), String>> },
    /// Rows of another origin, written when there is time. Each continues what was sent before of this origin; whoever
    /// left one out sends all rows.
    Remote {
        head: Signed,
        rows: Vec<Arc<Row>>,
        /// These are all the rows there are; others of this origin go.
        whole: bool,
        gone: Vec<Key>,
    },
}

/// What the last process left.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Of every origin the head, and rows that add up to it, in no order. Signatures are not looked at.
    pub origins: Vec<(Signed, Vec<Row>)>,
    pub slots: BTreeMap<String, Vec<u8>>,
    /// Where a database was put that cannot be read. Slots that could still be read in it are here, but may be older
    /// than what was acknowledged.
    pub set_aside: Option<PathBuf>,
    /// There was no database, or none that can be read: nothing is remembered here, whatever was said.
    pub fresh: bool,
    /// Origins whose rows did not add up. They are gone here and have to come from others.
    pub damaged: Vec<String>,
}

/// Origins of which something was left out, because the disk failed for long. What is on it of them is whole, and old.
pub type Missed = Arc<BTreeSet<Origin>>;

/// The database, open.
#[derive(Debug)]
pub struct Store {
    place: Place,
    connection: Connection,
    books: Books,
    fresh: bool,
    missed: watch::Sender<Missed>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{0} cannot be used: {1}; the state folder must be writable for edgeproxy")]
    Folder(PathBuf, #[source] io::Error),
    #[error("another edgeproxy has {0} open: stop it first, or give this one its own --state")]
    Occupied(PathBuf),
    #[error("{0}: {1}{hint}", hint = hint(.1))]
    Database(PathBuf, #[source] rusqlite::Error),
    #[error(
        "{0} is damaged: {1}; it is set aside at the next start, and what it had comes from the other POPs"
    )]
    Damaged(PathBuf, String),
    #[error("somebody removed or replaced {0} while it was open; it is made anew at the next start")]
    Removed(PathBuf),
    #[error("there is no {0}: name the state folder of a POP that replicates")]
    Missing(PathBuf),
    #[error("{0} was written by a later edgeproxy: use that one")]
    Later(PathBuf),
    #[error("line {line} of the dump: {what}")]
    Dump { line: u64, what: String },
    #[error("the dump cannot be read or written: {0}")]
    Stream(#[source] io::Error),
}

/// What an operator does about an error of SQLite's.
fn hint(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, PermissionDenied, ReadOnly};
    match error.sqlite_error_code() {
        Some(DiskFull) => "; make room on this disk: it is tried again with the next write",
        Some(ReadOnly | PermissionDenied) => "; the state folder must be writable for edgeproxy",
        Some(DatabaseBusy | DatabaseLocked) => {
            "; another program holds it, such as a shell of SQLite: close that"
        }
        _ => "",
    }
}

/// Opens `STATE/replication/fleet.db`; `folder` is the folder around it. Makes both where they are missing. A database
/// that cannot be read, or is of a later edgeproxy, is renamed to `fleet.db.corrupt-N` first; three of these are kept.
///
/// # Errors
/// When the folder or the disk refuses, or another process has it open. Nothing has changed then.
pub fn open(folder: &Path) -> Result<(Store, Loaded), StoreError> {
    let place = Place::take(folder)?;
    let path = place.database();
    let existed = path.exists();
    let refused = |error| StoreError::Database(path.clone(), error);
    let found = match place.suspicion() {
        Some(why) => Err(Fault::Damage(why)),
        None => load::load(&path),
    };
    let (connection, contents, set_aside) = match found {
        Ok((connection, contents)) => (connection, contents, None),
        Err(Fault::Weather(error)) => return Err(refused(error)),
        Err(fault @ (Fault::Damage(_) | Fault::Later)) => {
            // Slots of a later edgeproxy may mean something else.
            let slots = if fault == Fault::Later { BTreeMap::new() } else { load::salvage(&path) };
            let aside = place.set_aside()?;
            warn!(
                "{} cannot be used: {fault}; it is now {}, and what it had is asked of the other POPs",
                path.display(),
                aside.display()
            );
            let (connection, mut contents) = load::load(&path).map_err(|fault| match fault {
                Fault::Weather(error) => refused(error),
                fault => StoreError::Damaged(path.clone(), fault.to_string()),
            })?;
            write::keep_slots(&connection, &slots).map_err(refused)?;
            contents.slots = slots;
            (connection, contents, Some(aside))
        }
    };
    let Contents { origins, slots, damaged, mut books } = contents;
    books.slots = slots.keys().cloned().collect();
    if !damaged.is_empty() {
        warn!(
            "{}: the rows of {} are damaged and are asked of the other POPs",
            path.display(),
            damaged.join(", ")
        );
    }
    let fresh = !existed || set_aside.is_some();
    let missed = watch::Sender::default();
    Ok((
        Store { place, connection, books, fresh, missed },
        Loaded { origins, slots, set_aside, fresh, damaged },
    ))
}

impl Store {
    /// Origins whose rows are to be sent again, all of them: then they are not in it any more.
    #[must_use]
    pub fn missed(&self) -> watch::Receiver<Missed> {
        self.missed.subscribe()
    }

    /// Writes what comes, until `stop` or until all senders are gone; what was sent before is written then. It blocks
    /// its thread: that must be its own.
    ///
    /// An own write waits for what is in the channel before it, so the channel should be short. Once an hour the
    /// database is copied to `fleet.db.backup`, in small steps between the writes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and [`StoreError::Removed`]: open it anew, and send everything again. Other errors are
    /// told to whoever waits, and tried again.
    pub async fn run(self, work: mpsc::Receiver<Work>, stop: CancellationToken) -> Result<(), StoreError> {
        let Self { place, connection, books, fresh, missed } = self;
        clerk::Clerk::new(&place, &connection, books, missed).run(fresh, work, &stop).await
    }
}

#[cfg(test)]
mod tests;
