//! The hourly copy of the database, made in small steps between the writes.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::clerk::{Clerk, While};
use super::place::Place;
use super::{StoreError, Work};

const EVERY: Duration = Duration::from_secs(3_600);
/// A start is no time for it.
const SOON: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_secs(600);
/// One step: what an own write may have to wait for. A quarter of a MiB.
const PAGES: i32 = 64;
/// So long the disk is left to others after each.
const PAUSE: Duration = Duration::from_millis(2);
/// After so many steps they are brought to the disk, so that the last time is as short as the others: a sync of the
/// log may have to wait for all that is on its way to the same disk.
const STEPS_TO_SYNC: u32 = 8;

/// When the next one is due.
#[derive(Debug)]
pub(super) struct Schedule {
    next: Instant,
}

impl Schedule {
    /// An hour after the last one, if that is known. A database that was made anew just now replaces no copy of an
    /// older one before it had time to be filled.
    pub fn new(place: &Place, fresh: bool) -> Self {
        let age =
            || SystemTime::now().duration_since(fs::metadata(place.backup()).ok()?.modified().ok()?).ok();
        let wait = if fresh { EVERY } else { EVERY.saturating_sub(age().unwrap_or(EVERY)).max(SOON) };
        Self { next: Instant::now() + wait }
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    pub fn tried(&mut self, made: bool) {
        self.next = Instant::now() + if made { EVERY } else { RETRY_AFTER };
    }
}

impl Clerk<'_> {
    /// Copies the database, and serves whoever comes meanwhile. False: it was not made, and it was said why.
    pub async fn back_up(
        &mut self,
        work: &mut mpsc::Receiver<Work>,
        stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let (connection, path) = (self.connection(), self.place().unfinished());
        let copied = match begin(&path) {
            Ok((mut copy, file)) => self.step(connection, &mut copy, &file, work, stop).await?,
            Err(why) => Err(why),
        };
        let made = copied.and_then(|whole| {
            if whole {
                File::open(&path)?.sync_all()?;
                fs::rename(&path, self.place().backup())?;
                self.place().sync()?;
            }
            Ok(whole)
        });
        if !matches!(made, Ok(true)) {
            let _ = fs::remove_file(&path);
        }
        if let Err(why) = &made {
            warn!(
                "there is no new {}: {why}; it is tried again in 10 minutes",
                self.place().backup().display()
            );
        }
        Ok(made.unwrap_or(false))
    }

    /// Whether it was copied to its end.
    async fn step(
        &mut self,
        connection: &Connection,
        copy: &mut Connection,
        file: &File,
        work: &mut mpsc::Receiver<Work>,
        stop: &CancellationToken,
    ) -> Result<io::Result<bool>, StoreError> {
        let backup = match Backup::new(connection, copy) {
            Ok(backup) => backup,
            Err(error) => return Ok(Err(io::Error::other(error))),
        };
        for step in 1_u32.. {
            match backup.step(PAGES) {
                Ok(StepResult::Done) => break,
                Ok(_) => {}
                Err(error) => return Ok(Err(io::Error::other(error))),
            }
            if step % STEPS_TO_SYNC == 0
                && let Err(error) = file.sync_data()
            {
                return Ok(Err(error));
            }
            if self.serve(work, stop, Instant::now() + PAUSE).await? == While::Stopped {
                return Ok(Ok(false));
            }
        }
        Ok(Ok(true))
    }
}

/// An empty file that needs no log of its own: it is whole, or has no name.
fn begin(path: &Path) -> io::Result<(Connection, File)> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let copy = Connection::open(path).map_err(io::Error::other)?;
    copy.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(())).map_err(io::Error::other)?;
    copy.execute_batch("PRAGMA synchronous = OFF").map_err(io::Error::other)?;
    Ok((copy, File::options().read(true).write(true).open(path)?))
}
