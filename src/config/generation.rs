//! The generations of the configuration that this process was given, kept so that a restart uses the last
//! confirmed one whatever happened meanwhile.
//!
//! `STATE/generations/` holds the texts (`00000007.yaml`, and `00000007.sig` of a signed one) and one
//! pointer, `confirmed.json`. A text is stored before it is put in force, and the pointer is moved after:
//! whoever is killed in between starts with what was confirmed.

pub mod atomic;
mod pointer;
mod start;
mod step;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tracing::Level;

pub use pointer::Entry;
use pointer::{MOST_TEXTS, Pointer, sha256};
pub use start::{Beginning, begin};
pub use step::{Fault, Step};

use super::Config;
use super::load::{Source, beginning};
use super::problem::Problems;
use super::signature::{self, Signature};
use super::tree::MOST_BYTES;

const POINTER: &str = "confirmed.json";
/// Many times what a pointer with all its entries needs.
const MOST_POINTER_BYTES: usize = 1 << 20;

/// Something to log once there is a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub level: Level,
    pub words: String,
}

impl Note {
    fn new(level: Level, words: impl Into<String>) -> Self {
        Self { level, words: words.into() }
    }
}

/// Why a generation could not be stored or had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} cannot be written: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("{} is in use by another edgeproxy: give this one its own --state", .0.display())]
    Busy(PathBuf),
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not what was stored: it is torn, or somebody changed it", .0.display())]
    Changed(PathBuf),
    #[error("{0}")]
    Invalid(Problems),
    #[error("generation {generation} is not stored; there are: {known}")]
    Unknown { generation: u64, known: String },
}

/// The stored generations. All of its work is done on the disk and may take as long as that takes.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// As it stands on the disk.
    pointer: Pointer,
    /// Only its holder writes. None: it could not be had yet.
    lock: Option<File>,
    fault: Option<Fault>,
}

impl Store {
    /// Opens the store under the directory `state`, clears away what transactions left unfinished, and says
    /// what is wrong with it. `base` stands in for what a lost pointer knew: the directory of the
    /// configuration file.
    #[must_use]
    pub fn open(state: &Path, base: &Path) -> (Self, Vec<Note>) {
        let directory = state.join("generations");
        let mut notes = Vec::new();
        let mut store = Self { directory, pointer: Pointer::default(), lock: None, fault: None };
        // Made only for something to store: a start that fails leaves no directories behind.
        if store.directory.exists()
            && let Err(error) = store.prepare()
        {
            let words = format!("apply, confirm and rollback will be refused: {error}");
            notes.push(Note::new(Level::ERROR, words));
        }
        match store.read_pointer() {
            Ok(pointer) => {
                store.pointer = pointer;
                store.sweep(&mut notes);
            }
            Err(why) => {
                store.pointer = store.rebuild(base);
                if let Some(newest) = store.pointer.history.first() {
                    let words = format!(
                        "{}: {why}; which generation is confirmed is lost: the newest that is whole is taken for it \
                         (there are {}, up to {})",
                        store.directory.join(POINTER).display(),
                        store.pointer.history.len(),
                        newest.generation
                    );
                    notes.push(Note::new(Level::ERROR, words));
                }
            }
        }
        (store, notes)
    }

    /// From now on something happens at one step: a test hook.
    pub fn arm(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    /// Passes a step that is not the store's own.
    ///
    /// # Errors
    /// Only if a test has armed the store.
    pub fn reached(&self, step: Step) -> Result<(), StoreError> {
        let passed = self.fault.map_or(Ok(()), |fault| fault.reached(step));
        passed.map_err(|source| StoreError::Unwritable { path: self.directory.clone(), source })
    }

    /// The highest generation that was ever confirmed; 0 if none was.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.pointer.highest
    }

    /// Whether this text is the confirmed one.
    #[must_use]
    pub fn is_confirmed(&self, text: &str) -> bool {
        self.pointer.confirmed.as_ref().is_some_and(|entry| entry.sha256 == sha256(text.as_bytes()))
    }

    /// The newest stored generation that is older than `generation`.
    #[must_use]
    pub fn before(&self, generation: u64) -> Option<u64> {
        self.pointer.before(generation).map(|entry| entry.generation)
    }

    /// A stored generation with its text and what it says.
    ///
    /// # Errors
    /// When there is none of this number, or it is not whole, or not valid (any more: secrets are
    /// read anew).
    pub fn get(&self, generation: u64) -> Result<(Entry, Source, Config), StoreError> {
        let Some(entry) = self.pointer.entries().find(|entry| entry.generation == generation) else {
            let known: Vec<_> = self.pointer.entries().map(|entry| entry.generation.to_string()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(StoreError::Unknown { generation, known });
        };
        self.read(entry).map(|(source, config)| (entry.clone(), source, config))
    }

    /// Makes the directory and takes it for this process.
    ///
    /// # Errors
    /// When it cannot be made or written, or another process has it.
    pub fn prepare(&mut self) -> Result<(), StoreError> {
        if self.lock.is_none() {
            let path = self.directory.clone();
            self.lock = Some(atomic::occupy(&path).map_err(|source| match source.kind() {
                io::ErrorKind::WouldBlock => StoreError::Busy(path),
                _ => StoreError::Unwritable { path, source },
            })?);
        }
        Ok(())
    }

    /// Stores a text. It is not in force for any restart before it is [confirmed](Self::confirm).
    ///
    /// # Errors
    /// When it could not be written; nothing has changed then.
    pub fn put(&mut self, generation: u64, source: &Source) -> Result<Entry, StoreError> {
        self.prepare()?;
        self.reached(Step::BeforeText)?;
        let (text, signature) = (self.path(generation, "yaml"), self.path(generation, "sig"));
        // The text comes last: where it is, all of it is.
        match &source.signature {
            Some(words) => self.write(&signature, (words.text() + "\n").as_bytes(), None)?,
            None => drop(fs::remove_file(&signature)),
        }
        self.write(&text, source.text.as_bytes(), Some(Step::TextWritten))?;
        self.reached(Step::TextRenamed)?;
        Ok(Entry { generation, base: source.base.clone(), sha256: sha256(source.text.as_bytes()) })
    }

    /// Remembers that a stored text is about to be put in force for a time only.
    ///
    /// # Errors
    /// When that could not be written.
    pub fn try_out(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let pointer = Pointer { unconfirmed: Some(entry.clone()), ..self.pointer.clone() };
        self.write_pointer(pointer, None)
    }

    /// Makes a stored text the one that a start uses.
    ///
    /// # Errors
    /// When that could not be written: the confirmed one is what it was.
    pub fn confirm(&mut self, entry: Entry) -> Result<(), StoreError> {
        self.reached(Step::BeforeConfirm)?;
        let mut pointer = self.pointer.clone();
        pointer.confirm(entry);
        self.write_pointer(pointer, Some(Step::ConfirmWritten))?;
        self.reached(Step::Confirmed)?;
        self.sweep(&mut Vec::new());
        Ok(())
    }

    /// Removes a text that was put in force for a time and is not any more.
    pub fn discard(&self, generation: u64) {
        if self.pointer.entries().all(|entry| entry.generation != generation) {
            for extension in ["yaml", "sig"] {
                // If it stays, the next start clears it away.
                let _ = fs::remove_file(self.path(generation, extension));
            }
        }
    }

    fn path(&self, generation: u64, extension: &str) -> PathBuf {
        self.directory.join(format!("{generation:08}.{extension}"))
    }

    fn read(&self, entry: &Entry) -> Result<(Source, Config), StoreError> {
        let path = self.path(entry.generation, "yaml");
        let octets = beginning(&path, MOST_BYTES + 1)
            .map_err(|source| StoreError::Unreadable { path: path.clone(), source })?;
        if sha256(&octets) != entry.sha256 {
            return Err(StoreError::Changed(path));
        }
        let text = String::from_utf8(octets).map_err(|_| StoreError::Changed(path.clone()))?;
        let signature = beginning(&self.path(entry.generation, "sig"), signature::MOST_OCTETS).ok();
        let signature = signature.map(|octets| Signature::read(&octets));
        let source = Source { text, base: entry.base.clone(), signature };
        let config = source.parse().map_err(|problems| StoreError::Invalid(problems.in_file(&path)))?;
        Ok((source, config))
    }

    /// The pointer on the disk. An empty directory has an empty one.
    fn read_pointer(&self) -> Result<Pointer, String> {
        match beginning(&self.directory.join(POINTER), MOST_POINTER_BYTES) {
            Ok(octets) => {
                serde_json::from_slice(&octets).map_err(|error| format!("is torn or garbage ({error})"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.texts().is_empty() => {
                Ok(Pointer::default())
            }
            Err(error) => Err(format!("cannot be read ({error})")),
        }
    }

    /// What the texts alone tell: all of them, the newest first.
    fn rebuild(&self, base: &Path) -> Pointer {
        let entry = |generation: u64| {
            let octets = beginning(&self.path(generation, "yaml"), MOST_BYTES + 1).ok()?;
            Some(Entry { generation, base: base.to_owned(), sha256: sha256(&octets) })
        };
        let mut generations = self.texts();
        generations.sort_unstable_by(|a, b| b.cmp(a));
        let highest = generations.first().copied().unwrap_or_default();
        let history = generations.into_iter().take(MOST_TEXTS).filter_map(entry).collect();
        Pointer { history, highest, ..Pointer::default() }
    }

    /// The generations of which there is a text, in no order.
    fn texts(&self) -> Vec<u64> {
        let number = |path: &Path| {
            (path.extension()? == "yaml").then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
        };
        let listing = fs::read_dir(&self.directory).into_iter().flatten();
        listing.filter_map(|entry| number(&entry.ok()?.path())).collect()
    }

    /// Removes unfinished files and texts that the pointer does not know.
    fn sweep(&self, notes: &mut Vec<Note>) {
        if self.lock.is_none() {
            return;
        }
        for generation in self.texts() {
            if self.pointer.entries().any(|entry| entry.generation == generation) {
                continue;
            }
            let tried = self.pointer.unconfirmed.as_ref().is_some_and(|entry| entry.generation == generation);
            if tried {
                let words = format!("generation {generation} was applied but not confirmed: it is dropped");
                notes.push(Note::new(Level::WARN, words));
            }
            self.discard(generation);
        }
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with(atomic::UNFINISHED) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn write_pointer(&mut self, pointer: Pointer, synced: Option<Step>) -> Result<(), StoreError> {
        self.prepare()?;
        let path = self.directory.join(POINTER);
        let unwritable = |source| StoreError::Unwritable { path: path.clone(), source };
        let octets = serde_json::to_vec_pretty(&pointer).map_err(|error| unwritable(error.into()))?;
        let reached = || match (self.fault, synced) {
            (Some(fault), Some(step)) => fault.reached(step),
            _ => Ok(()),
        };
        atomic::write(&path, &octets, || Ok(()), reached).map_err(unwritable)?;
        self.pointer = pointer;
        Ok(())
    }

    fn write(&self, path: &Path, octets: &[u8], written: Option<Step>) -> Result<(), StoreError> {
        let reached = || match (self.fault, written) {
            (Some(fault), Some(step)) => fault.reached(step),
            _ => Ok(()),
        };
        let unwritable = |source| StoreError::Unwritable { path: path.to_owned(), source };
        atomic::write(path, octets, reached, || Ok(())).map_err(unwritable)
    }
}

#[cfg(test)]
mod tests;
