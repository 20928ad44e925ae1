//! The folder of the database: who has it, what lies in it, and what is put aside.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::aside;

/// Octets of the shortest database: one page (SQLite's default, and ours).
const LEAST: u64 = 4_096;

/// A folder that this process has for itself.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    /// The folder itself, locked until this is dropped.
    lock: File,
}

impl Place {
    /// Makes the folder where it is missing, and takes it.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let refused = |error| StoreError::Folder(folder.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refused)?;
        let lock = File::open(folder).map_err(refused)?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(StoreError::Occupied(folder.to_owned())),
            Err(TryLockError::Error(error)) => return Err(refused(error)),
            Ok(()) => {}
        }
        let place = Self { folder: folder.to_owned(), lock };
        // Of a process that was killed while it made one.
        let _ = fs::remove_file(place.unfinished());
        Ok(place)
    }

    pub fn database(&self) -> PathBuf {
        database(&self.folder)
    }

    pub fn backup(&self) -> PathBuf {
        self.folder.join("fleet.db.backup")
    }

    pub fn unfinished(&self) -> PathBuf {
        self.folder.join("fleet.db.backup.tmp")
    }

    /// What is known of the database before it is opened. SQLite would take what is left of a file for a new database.
    pub fn suspicion(&self) -> Option<String> {
        if self.suspect().exists() {
            return Some("it was found damaged while it was in use".to_owned());
        }
        let cut = fs::metadata(self.database()).is_ok_and(|file| file.len() < LEAST);
        cut.then(|| "it was cut off".to_owned())
    }

    /// Has the next process put the database aside.
    pub fn suspect_it(&self) {
        let _ = File::create(self.suspect());
    }

    /// Renames the database and what belongs to it. The answer is its new name.
    pub fn set_aside(&self) -> Result<PathBuf, StoreError> {
        let refused = |error| StoreError::Folder(self.folder.clone(), error);
        let aside = aside::rename(&self.folder, &self.database()).map_err(refused)?;
        match fs::remove_file(self.suspect()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        self.sync().map_err(refused)?;
        Ok(aside)
    }

    /// Which file has the name of the database now: device and number.
    pub fn identity(&self) -> Option<(u64, u64)> {
        fs::metadata(self.database()).ok().map(|file| (file.dev(), file.ino()))
    }

    /// Without this the folder may forget after a power failure what was renamed in it.
    pub fn sync(&self) -> io::Result<()> {
        self.lock.sync_all()
    }

    fn suspect(&self) -> PathBuf {
        self.folder.join("fleet.db.suspect")
    }
}

pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("fleet.db")
}
