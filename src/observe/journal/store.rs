//! The journal's files: lines appended within bounds, and read back after a restart.
#![expect(clippy::disallowed_methods, reason = "driver: reads and writes the files of the journal")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Entry;

/// A file is not written beyond this, and not read back further from its end.
const FILE_BYTES: u64 = 4 << 20;
/// So many files are kept; the oldest is removed before another is begun.
const FILES: usize = 8;
/// Numbers above are garbage: not every reader of JSON keeps them exactly (RFC 8259 §6).
const MOST_SEQ: u64 = 1 << 53;

/// A folder of files `NNNNNN.jsonl`, the newest open for writing. Other files in it are left alone.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// The folder itself, locked, so that two processes of one state do not mix their numbers.
    lock: File,
    numbers: BTreeSet<u64>,
    number: u64,
    file: File,
    length: u64,
    unsynced: bool,
}

/// What earlier processes wrote.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest, oldest first.
    pub entries: Vec<Entry>,
    /// The highest number, also of a line that only a newer edgeproxy can read; 0 if there is none.
    pub last_seq: u64,
}

impl Store {
    /// Makes the folder where it is missing, and goes on where the last process ended, whatever it left.
    ///
    /// # Errors
    /// The file system's; or another process has the folder open.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = File::open(folder)?;
        // A file system without locks is no reason to write nothing.
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Err(io::Error::other("another edgeproxy writes there: give this one its own --state"));
        }
        let (mut numbers, mut number) = (BTreeSet::new(), 0);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Some(found) = number_of(&entry.file_name()) else { continue };
            number = number.max(found);
            if entry.file_type()?.is_file() {
                numbers.insert(found);
            }
        }
        // Without files, or with something in the way that is none.
        if !numbers.contains(&number) {
            number += 1;
        }
        let (file, length) = begin(folder, number)?;
        numbers.insert(number);
        Ok(Self { folder: folder.to_owned(), lock, numbers, number, file, length, unsynced: true })
    }

    /// The newest entries, at most `most`. Lines and files that cannot be read are passed over.
    #[must_use]
    pub fn read_back(&self, most: usize) -> Found {
        let mut found = Found::default();
        for &number in self.numbers.iter().rev() {
            let text = tail(&path(&self.folder, number)).unwrap_or_default();
            for line in text.rsplit(|&octet| octet == b'\n') {
                found.take(line, most);
            }
            if found.entries.len() >= most {
                break;
            }
        }
        found.entries.reverse();
        found
    }

    /// Appends whole lines, far fewer than a file holds.
    ///
    /// # Errors
    /// The file system's: the lines are not there, or what is there of them will be passed over. Open the
    /// store anew then.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + lines.len() as u64 > FILE_BYTES {
            self.turn()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += lines.len() as u64;
        self.unsynced = true;
        Ok(())
    }

    /// Whether something was written since the last [`sync`](Self::sync).
    #[must_use]
    pub fn unsynced(&self) -> bool {
        self.unsynced
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// The file system's, or somebody removed the file. Open the store anew then.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.unsynced = false;
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(ErrorKind::NotFound, "somebody removed its newest file"));
        }
        Ok(())
    }

    /// Begins the next file, making room for it first.
    fn turn(&mut self) -> io::Result<()> {
        self.sync()?;
        while self.numbers.len() >= FILES
            && let Some(oldest) = self.numbers.pop_first()
        {
            // Somebody else may have removed it.
            let _ = fs::remove_file(path(&self.folder, oldest));
        }
        self.number += 1;
        (self.file, self.length) = begin(&self.folder, self.number)?;
        self.numbers.insert(self.number);
        // A file lasts no longer than its name.
        self.lock.sync_all()
    }
}

impl Found {
    /// Takes the next line on the way from the newest to the oldest.
    fn take(&mut self, line: &[u8], most: usize) {
        #[derive(Deserialize)]
        struct Numbered {
            seq: u64,
        }

        let Ok(Numbered { seq }) = serde_json::from_slice(line) else { return };
        if seq > MOST_SEQ {
            return;
        }
        self.last_seq = self.last_seq.max(seq);
        let in_order = self.entries.last().is_none_or(|newer| seq < newer.seq);
        if in_order
            && self.entries.len() < most
            && let Ok(entry) = serde_json::from_slice(line)
        {
            self.entries.push(entry);
        }
    }
}

/// Opens a file for appending; a line that a killed process left torn is ended first.
fn begin(folder: &Path, number: u64) -> io::Result<(File, u64)> {
    let path = path(folder, number);
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
        length += 1;
    }
    Ok((file, length))
}

/// The end of a file, which is all of it unless somebody else wrote to it.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(FILE_BYTES)))?;
    let mut text = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:06}.jsonl"))
}

/// The number in a name that [`path`] may have made.
fn number_of(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".jsonl")?;
    let right = (6..=9).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    right.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
