//! A private key in a file of its own: made on this machine, and readable by nobody else.
#![expect(clippy::disallowed_methods, reason = "driver: reads and makes the key files of the backhaul")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::base64;

/// Why there is no key. The words say what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot make the key {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("the key {} is open to others (mode {mode:o}): chmod 600 {}, or remove it to have another made, if others may have read it", path.display(), path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} holds no key: 32 octets in base64, as `edgeproxy sixpn key` or `wg genkey` makes them", path.display())]
    NoKey { path: PathBuf },
    #[error("the machine gives no randomness for the key {}", path.display())]
    NoRandomness { path: PathBuf },
}

/// Reads a key, or makes it if there is no file. True: it was made now.
///
/// # Errors
/// The file is no key, is readable by others, or cannot be made: then no half of it is left.
pub fn load_or_make(path: &Path) -> Result<([u8; 32], bool), KeyError> {
    match load(path) {
        Err(KeyError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        read => return read.map(|key| (key, false)),
    }
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| KeyError::NoRandomness { path: path.to_owned() })?;
    // RFC 7748 §5, so that what is written is what is used.
    key[0] &= 248;
    key[31] = key[31] & 127 | 64;
    match make(path, &key) {
        Ok(()) => Ok((key, true)),
        // Another start of ours was quicker: its key is the key.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(path).map(|key| (key, false)),
        Err(source) => Err(KeyError::Unwritable { path: path.to_owned(), source }),
    }
}

/// Reads a key.
///
/// # Errors
/// It is not there, is none, or is readable by others.
pub fn load(path: &Path) -> Result<[u8; 32], KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    let no_key = || KeyError::NoKey { path: path.to_owned() };
    if !metadata.is_file() || metadata.len() > 256 {
        return Err(no_key());
    }
    if mode & 0o077 != 0 {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    base64::decode(text.trim()).and_then(|octets| octets.try_into().ok()).ok_or_else(no_key)
}

/// Written whole beside its place first, and then given its name, which must be free.
fn make(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).and_then(|mut file| {
            file.write_all(base64::encode(key).as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
    let named = written.and_then(|()| fs::hard_link(&beside, path));
    let _ = fs::remove_file(&beside);
    named?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/backhaul.key");
        let (key, made) = load_or_make(&path).unwrap();
        assert!(made && key != [0; 32]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap(), (key, false));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_key_or_open_to_others_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "hello").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(load_or_make(&path), Err(KeyError::NoKey { .. })));
        fs::write(&path, base64::encode(&[7; 32])).unwrap();
        assert_eq!(load_or_make(&path).unwrap(), ([7; 32], false));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let words = load_or_make(&path).unwrap_err().to_string();
        assert!(words.contains("chmod 600"), "{words}");
        assert!(load_or_make(Path::new("/proc/nothing/here")).is_err());
    }
}
