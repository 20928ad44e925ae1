//! Reads a configuration file and judges it as a whole.
#![expect(clippy::disallowed_methods, reason = "driver: reads the configuration file")]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Config;
use super::decode;
use super::problem::{Problem, Problems};
use super::read::{Sheet, Spot};
use super::tree::{self, MOST_BYTES};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file itself.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// What is in it; the text names every problem.
    #[error("{0}")]
    Invalid(Problems),
}

/// Reads a file. Relative paths of secrets begin in its directory.
///
/// # Errors
/// When it cannot be read, or when anything in it is wrong: then all that is wrong.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let mut octets = Vec::new();
    // One octet over the limit is enough for `parse` to refuse it.
    let limit = MOST_BYTES as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut octets)).map_err(unreadable)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let read = match std::str::from_utf8(&octets) {
        Ok(text) => parse(text, base),
        // The limit may have cut a character in two.
        Err(_) if octets.len() > MOST_BYTES => parse(&" ".repeat(MOST_BYTES + 1), base),
        Err(error) => Err(not_utf8(&octets, error.valid_up_to())),
    };
    read.map_err(|problems| LoadError::Invalid(problems.in_file(path)))
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
