//! Which configuration a start uses: the file, or the confirmed generation of the store.

use std::path::Path;

use tracing::Level;

use super::pointer::sha256;
use super::{Note, Store, StoreError};
use crate::config::Config;
use crate::config::load::{self, LoadError, Source};

/// What a process begins with.
#[derive(Debug)]
pub struct Beginning {
    pub config: Config,
    pub source: Source,
    pub store: Store,
    /// What an operator should know, for the log.
    pub notes: Vec<Note>,
}

/// Chooses. The file is used when it is new: valid, signed if that is asked for, and of a higher generation
/// than was ever confirmed. Then it is confirmed. In all other cases the confirmed generation is used.
///
/// # Errors
/// When nothing is stored and the file is not good.
pub fn begin(file: &Path, state: &Path) -> Result<Beginning, LoadError> {
    let read = load::read(file).and_then(|source| {
        let invalid = |problems: crate::config::problem::Problems| LoadError::Invalid(problems.in_file(file));
        source.parse().map_err(invalid).map(|config| (source, config))
    });
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let (mut store, mut notes) = Store::open(state, whole.parent().unwrap_or(Path::new("/")));
    let stored = best(&store, &mut notes);

    let (source, config) = match (read, stored) {
        (Err(error), None) => return Err(error),
        (Err(error), Some((source, config))) => {
            let words = format!(
                "{} cannot be used, so the confirmed generation {} is:\n{error}",
                file.display(),
                config.generation
            );
            notes.push(Note::new(Level::ERROR, words));
            (source, config)
        }
        (Ok((source, config)), None) => {
            // Nobody is there to vouch for the first file but itself.
            verify(&config, &source, file)?;
            take(&mut store, &source, &config, &mut notes);
            (source, config)
        }
        (Ok((source, config)), Some((stored, confirmed))) => {
            match judge(&store, (&source, &config), (&stored, &confirmed), file) {
                Ok(Taken::Known) => (stored, confirmed),
                Ok(Taken::New) => {
                    take(&mut store, &source, &config, &mut notes);
                    (source, config)
                }
                Err(note) => {
                    notes.push(note);
                    (stored, confirmed)
                }
            }
        }
    };
    Ok(Beginning { config, source, store, notes })
}

/// How a file is taken.
enum Taken {
    /// It is what is stored.
    Known,
    New,
}

/// Whether the file is used although something is stored; otherwise why not.
fn judge(
    store: &Store,
    (source, config): (&Source, &Config),
    (stored, confirmed): (&Source, &Config),
    file: &Path,
) -> Result<Taken, Note> {
    let (shown, number) = (file.display(), confirmed.generation);
    if source.text == stored.text {
        return Ok(Taken::Known);
    }
    if store.is_confirmed(&source.text) {
        // The store's own copy is not whole.
        return Ok(Taken::New);
    }
    let highest = store.highest();
    if config.generation <= highest {
        let words = format!(
            "{shown} (generation {}) differs from the confirmed generation {number}, which is used\n  \
             hint: raise its generation to {} and start again, reload, or `edgeproxy apply {shown}`",
            config.generation,
            highest + 1
        );
        return Err(Note::new(Level::WARN, words));
    }
    if let Err(error) = verify(confirmed, source, file) {
        let words = format!("the confirmed generation {number} is used: {error}");
        return Err(Note::new(Level::ERROR, words));
    }
    let tried = store.pointer.unconfirmed.as_ref();
    if tried.is_some_and(|entry| entry.sha256 == sha256(source.text.as_bytes())) {
        let words = format!(
            "{shown} (generation {}) was applied but never confirmed: the confirmed generation {number} is used\n  \
             hint: `edgeproxy apply {shown}` takes it",
            config.generation
        );
        return Err(Note::new(Level::WARN, words));
    }
    Ok(Taken::New)
}

/// The first of the stored generations that is whole, beginning with the confirmed one.
fn best(store: &Store, notes: &mut Vec<Note>) -> Option<(Source, Config)> {
    let mut best = None;
    let mut broken = false;
    for entry in store.pointer.entries() {
        match store.read(entry) {
            Ok(found) => {
                best = Some(found);
                break;
            }
            Err(error) => {
                broken = true;
                let words = format!("the stored generation {} cannot be used: {error}", entry.generation);
                notes.push(Note::new(Level::ERROR, words));
            }
        }
    }
    if let (true, Some((_, config))) = (broken, &best) {
        let words = format!("generation {} is the best that is stored and whole", config.generation);
        notes.push(Note::new(Level::ERROR, words));
    }
    best
}

fn verify(by: &Config, source: &Source, file: &Path) -> Result<(), LoadError> {
    let Some(key) = &by.admin.operator_key else { return Ok(()) };
    key.verify(&source.text, source.signature.as_ref())
        .map_err(|source| LoadError::Unsigned { path: file.to_owned(), source })
}

/// Stores and confirms the file. Announcing matters more than remembering: it is used either way.
fn take(store: &mut Store, source: &Source, config: &Config, notes: &mut Vec<Note>) {
    let stored: Result<(), StoreError> =
        store.put(config.generation, source).and_then(|entry| store.confirm(entry));
    if let Err(error) = stored {
        let words =
            format!("generation {} is used but not remembered over a restart: {error}", config.generation);
        notes.push(Note::new(Level::ERROR, words));
    }
}
