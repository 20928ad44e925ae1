//! Reads the files that the configuration names; secrets only if nobody else can.
#![expect(clippy::disallowed_methods, reason = "driver: reads the files that the configuration names")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::backhaul::key_octets;
use super::bgp::Secret;

/// The longest key that the kernel takes for TCP-MD5 (`TCP_MD5SIG_MAXKEYLEN`).
const MOST_OCTETS: usize = 80;

/// Why a file was not taken, and what to do.
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: String,
}

/// Reads a secret; one line end after it does not belong to it.
pub(super) fn read(path: &Path) -> Result<Secret, Refusal> {
    let shown = path.display();
    let mut octets = octets(path, Reader::Us, MOST_OCTETS + 3)?;
    if octets.ends_with(b"\n") {
        octets.pop();
        if octets.ends_with(b"\r") {
            octets.pop();
        }
    }
    match octets.len() {
        0 => Err(refusal(format!("{shown} is empty"), "write the secret into it")),
        1..=MOST_OCTETS => Ok(Secret::new(octets)),
        _ => Err(refusal(
            format!("{shown} holds more than {MOST_OCTETS} octets"),
            format!("TCP-MD5 takes at most {MOST_OCTETS}"),
        )),
    }
}

/// Reads a key of 32 octets in base64, as `wg genpsk` writes it.
pub(super) fn key(path: &Path) -> Result<[u8; 32], Refusal> {
    let octets = octets(path, Reader::Us, 256)?;
    let key = str::from_utf8(&octets).ok().and_then(key_octets).filter(|key| *key != [0; 32]);
    key.ok_or_else(|| {
        let shown = path.display();
        refusal(
            format!("{shown} holds no key: 32 octets in base64 are expected, and not all of them zero"),
            format!("`(umask 077; wg genpsk > {shown})`, or 44 letters from `openssl rand -base64 32`"),
        )
    })
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Everybody,
    /// This process and its group.
    Us,
}

/// The first octets of a regular file, at most `most`.
pub(super) fn octets(path: &Path, reader: Reader, most: usize) -> Result<Vec<u8>, Refusal> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        refusal(format!("cannot read {shown}: {error}"), "the file must exist and be readable by edgeproxy")
    };
    // Asked before opening: a named pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refusal(format!("{shown} is no regular file"), "put it in a file of its own"));
    }
    if reader == Reader::Us && metadata.permissions().mode() & 0o007 != 0 {
        let mode = metadata.permissions().mode() & 0o777;
        return Err(refusal(
            format!("{shown} is open to everybody (mode {mode:o})"),
            format!("chmod 600 {shown}"),
        ));
    }
    let mut octets = Vec::new();
    File::open(path).map_err(unreadable)?.take(most as u64).read_to_end(&mut octets).map_err(unreadable)?;
    Ok(octets)
}

/// Whether a file that another room reads later is there, and is a file.
pub(super) fn is_there(path: &Path) -> Result<(), Refusal> {
    octets(path, Reader::Everybody, 1).map(drop)
}

pub(super) fn refusal(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
    Refusal { message: message.into(), hint: hint.into() }
}
