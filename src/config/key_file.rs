//! Private keys of the backhaul in files: made once, readable by nobody else, whole or not there.
#![expect(clippy::disallowed_methods, reason = "driver: makes and reads the private keys of the backhaul")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use super::backhaul::{key_octets, key_text};

/// 44 letters, and some white space.
const MOST_OCTETS: u64 = 256;

/// Why there is no key. Its words never hold what is in the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot read the private key {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot make the private key {}: {source}\n  hint: {hint}", path.display())]
    Unwritable { path: PathBuf, source: io::Error, hint: String },
    #[error("{} is no regular file\n  hint: a private key has a file of its own", .0.display())]
    NoFile(PathBuf),
    #[error("{} is a symbolic link to nowhere\n  hint: remove it, or bring back what it names", .0.display())]
    Dangling(PathBuf),
    #[error("others can read the private key {} (mode {mode:03o})\n  hint: chmod 600 {}; if somebody may have read it, make another key", path.display(), path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} holds no private key: 44 letters of base64 are expected, as `wg genkey` writes them\n  hint: bring back the right file; a new key must be told to every peer", .0.display())]
    Malformed(PathBuf),
    #[error("the system gives no random octets")]
    NoRandomness,
}

/// Reads a private key, and makes it first if it is not there: 32 octets, clamped (RFC 7748 §5). A file that is
/// there is never written.
///
/// # Errors
/// When it is not for our eyes only, is no key, or cannot be made; then there is no new file.
pub fn load_or_make(path: &Path) -> Result<[u8; 32], KeyFileError> {
    match load(path)? {
        Some(key) => Ok(key),
        None => make(path),
    }
}

/// Reads a private key; None if there is no such file.
///
/// # Errors
/// When it is not for our eyes only, or is no key.
pub fn load(path: &Path) -> Result<Option<[u8; 32]>, KeyFileError> {
    let unreadable = |source| KeyFileError::Unreadable { path: path.to_owned(), source };
    // Asked before opening: a named pipe would wait for a writer.
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => return Err(KeyFileError::NoFile(path.to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dangles = fs::symlink_metadata(path).is_ok();
            return if dangles { Err(KeyFileError::Dangling(path.to_owned())) } else { Ok(None) };
        }
        Err(source) => return Err(unreadable(source)),
    }
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    let mut octets = Vec::new();
    file.take(MOST_OCTETS).read_to_end(&mut octets).map_err(unreadable)?;
    let key = str::from_utf8(&octets).ok().and_then(key_octets).filter(|key| *key != [0; 32]);
    key.map(|key| Some(clamped(key))).ok_or_else(|| KeyFileError::Malformed(path.to_owned()))
}

/// Octets that nobody can guess.
///
/// # Errors
/// When the kernel gives none.
pub fn random<const N: usize>() -> Result<[u8; N], KeyFileError> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(|_| KeyFileError::NoRandomness)?;
    Ok(octets)
}

/// Makes the key in a file beside, which reaches the disk before it takes the name. A link never replaces: of two
/// that make it at once, both go on with the key of the first.
fn make(path: &Path) -> Result<[u8; 32], KeyFileError> {
    let key = clamped(random()?);
    let turn = u64::from_ne_bytes(random()?);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{turn:016x}.tmp"));
    let unfinished = PathBuf::from(name);
    let made = write(&unfinished, &key).and_then(|()| fs::hard_link(&unfinished, path));
    // Best effort: what is left over is worth nothing, and nobody else can read it.
    let _ = fs::remove_file(&unfinished);
    match made.and_then(|()| sync_directory(path)) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            load(path)?.ok_or_else(|| unwritable(path, error))
        }
        Err(error) => Err(unwritable(path, error)),
    }
}

fn write(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(format!("{}\n", key_text(key)).as_bytes())?;
    file.sync_all()
}

/// Without this the directory may forget the key after a power failure, when peers know it already.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn unwritable(path: &Path, source: io::Error) -> KeyFileError {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).display();
    let hint = match source.kind() {
        io::ErrorKind::NotFound => format!("mkdir -p -m 700 {folder}"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("make room in {folder}"),
        _ => format!("edgeproxy must be able to write in {folder}"),
    };
    KeyFileError::Unwritable { path: path.to_owned(), source, hint }
}

/// RFC 7748 §5, decodeScalar25519.
fn clamped(mut key: [u8; 32]) -> [u8; 32] {
    key[0] &= 0xf8;
    key[31] = key[31] & 0x7f | 0x40;
    key
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_key_is_made_once_and_is_the_same_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backhaul.key");
        assert_eq!(load(&path).unwrap(), None);
        let key = load_or_make(&path).unwrap();
        assert_eq!((key[0] & 7, key[31] & 0xc0), (0, 0x40));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), key_text(&key) + "\n");
        assert_eq!((load_or_make(&path).unwrap(), load(&path).unwrap()), (key, Some(key)));
        assert_eq!(files(folder.path()), ["backhaul.key"]);
        assert_ne!(load_or_make(&folder.path().join("other.key")).unwrap(), key);
    }

    #[test]
    fn whoever_makes_it_at_once_gets_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..16).map(|_| scope.spawn(|| load_or_make(&path).unwrap())).collect();
            makers.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(files(folder.path()), ["key"]);
        // A maker that saw no file is not the first any more.
        assert_eq!(make(&path).unwrap(), keys[0]);
    }

    #[test]
    fn a_file_of_wg_is_read_and_clamped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for text in [key_text(&[0xff; 32]), format!("{}\n", key_text(&[0xff; 32]))] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
            let key = load_or_make(&path).unwrap();
            assert_eq!((key[0], key[1], key[31]), (0xf8, 0xff, 0x7f));
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_is_there_and_no_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let good = key_text(&[1; 32]);
        for (text, mode, words) in [
            (good.as_bytes(), 0o640, "chmod 600"),
            (good.as_bytes(), 0o604, "mode 604"),
            (b"", 0o600, "holds no private key"),
            (&[7; 32], 0o600, "holds no private key"),
            (key_text(&[0; 32]).as_bytes(), 0o600, "holds no private key"),
            (&good.as_bytes()[..40], 0o600, "holds no private key"),
            (&[b'A'; 300], 0o600, "holds no private key"),
            (&[0xff; 44], 0o600, "holds no private key"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_make(&path).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("hint: "), "{error}");
            assert!(!error.contains(&good[..8]), "{error}");
            assert_eq!(fs::read(&path).unwrap(), text);
        }
        fs::remove_file(&path).unwrap();
        symlink(folder.path().join("nowhere"), &path).unwrap();
        assert!(matches!(load_or_make(&path), Err(KeyFileError::Dangling(_))));
        assert_eq!(files(folder.path()), ["key"]);
        assert!(matches!(load_or_make(folder.path()), Err(KeyFileError::NoFile(_))));
        let error = load_or_make(&folder.path().join("no/key")).unwrap_err().to_string();
        assert!(error.contains("mkdir -p"), "{error}");
    }

    #[test]
    fn a_link_to_a_key_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("key"), folder.path().join("link"));
        let key = load_or_make(&path).unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!(load_or_make(&link).unwrap(), key);
    }
}
