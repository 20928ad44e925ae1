//! Databases that could not be read: kept under other names for whoever wants to know why, a few of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// So many are kept.
const KEPT: usize = 3;
/// What SQLite puts beside a database.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// Renames a database and what lies beside it to the next name that is free, and removes the oldest ones.
pub(super) fn rename(folder: &Path, database: &Path) -> io::Result<PathBuf> {
    let prefix = format!("{}.corrupt-", database.file_name().unwrap_or_default().to_string_lossy());
    let mut numbers: Vec<u64> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let number = numbers.last().map_or(1, |last| last.saturating_add(1));
    let named = |number: u64| folder.join(format!("{prefix}{number}"));
    // Room first: the disk may be full.
    let surplus = (numbers.len() + 1).saturating_sub(KEPT);
    for oldest in &numbers[..surplus] {
        for suffix in BESIDE {
            let _ = fs::remove_file(with(&named(*oldest), suffix));
        }
    }
    let aside = named(number);
    // The database first: a log without its database is no harm, the other way round it would be lost.
    for suffix in BESIDE {
        match fs::rename(with(database, suffix), with(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
