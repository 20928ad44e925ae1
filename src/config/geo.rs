//! The database that tells where clients are: read whole, and never more than it may be.
#![expect(clippy::disallowed_methods, reason = "driver: reads a file that the configuration names")]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads a database of at most so many octets.
///
/// # Errors
/// The kernel's, and `FileTooLarge`.
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(most as u64 + 1).read_to_end(&mut octets)?;
    if octets.len() > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(octets)
}
