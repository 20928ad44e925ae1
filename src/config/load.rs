//! Reads a configuration file and judges it as a whole.
#![expect(clippy::disallowed_methods, reason = "driver: reads the configuration file and its signature")]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Config;
use super::decode;
use super::problem::{Problem, Problems};
use super::read::{Sheet, Spot};
use super::signature::{self, Signature, SignatureError};
use super::tree::{self, MOST_BYTES};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file itself.
    #[error("cannot read {}: {source}\n    hint: name the configuration's file; config/edgeproxy.yaml explains every key", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// What is in it; the text names every problem.
    #[error("{0}")]
    Invalid(Problems),
    /// It is good, but nobody who may has signed it.
    #[error("{}: {source}", path.display())]
    Unsigned { path: PathBuf, source: SignatureError },
}

/// A configuration as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub text: String,
    /// Absolute: where relative paths of secrets begin.
    pub base: PathBuf,
    pub signature: Option<Signature>,
}

impl Source {
    /// What the text says.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(&self) -> Result<Config, Problems> {
        parse(&self.text, &self.base)
    }
}

/// Reads a file and judges it. Relative paths of secrets begin in its directory.
///
/// # Errors
/// When it cannot be read, or when anything in it is wrong: then all that is wrong.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let invalid = |problems: Problems| LoadError::Invalid(problems.in_file(path));
    read(path)?.parse().map_err(invalid)
}

/// Reads a file, and its signature from `FILE.sig` if there is one, and judges neither.
///
/// # Errors
/// When it cannot be read, or is no text.
pub fn read(path: &Path) -> Result<Source, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    // One octet over the limit is enough for `parse` to refuse it.
    let octets = beginning(path, MOST_BYTES + 1).map_err(unreadable)?;
    let text = match String::from_utf8(octets) {
        Ok(text) => text,
        // The limit may have cut a character in two.
        Err(error) if error.as_bytes().len() > MOST_BYTES => " ".repeat(MOST_BYTES + 1),
        Err(error) => {
            let problems = not_utf8(error.as_bytes(), error.utf8_error().valid_up_to());
            return Err(LoadError::Invalid(problems.in_file(path)));
        }
    };
    let whole = std::path::absolute(path).map_err(unreadable)?;
    let base = whole.parent().unwrap_or(Path::new("/")).to_owned();
    let mut beside = whole.into_os_string();
    beside.push(".sig");
    let beside = PathBuf::from(beside);
    let signature = match beginning(&beside, signature::MOST_OCTETS) {
        Ok(octets) => Some(Signature::read(&octets)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(LoadError::Unreadable { path: beside, source }),
    };
    Ok(Source { text, base, signature })
}

/// The first octets of a file.
pub(super) fn beginning(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(most as u64).read_to_end(&mut octets)?;
    Ok(octets)
}

/// Reads a text; `base` is the directory in which relative paths of secrets begin.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, base: &Path) -> Result<Config, Problems> {
    let mut problems = Problems::new();
    let tree = tree::read(text, &mut problems);
    let sheet = Sheet::new(problems);
    let config = tree.as_ref().and_then(|tree| decode::decode(&Spot::top(&sheet, tree), base));
    let problems = sheet.into_problems();
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

fn not_utf8(octets: &[u8], valid: usize) -> Problems {
    let before = String::from_utf8_lossy(&octets[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    let mut problems = Problems::new();
    problems.add(Problem {
        path: String::new(),
        line,
        column,
        message: format!("not UTF-8: octet 0x{:02x}", octets[valid]),
        hint: "save the file as UTF-8".to_owned(),
    });
    problems
}
