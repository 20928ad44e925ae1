//! Files that are whole or not there, whenever the power fails.
#![expect(clippy::disallowed_methods, reason = "driver: writes the stored generations")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What the names of unfinished files end with; a file of this name is worth nothing.
pub const UNFINISHED: &str = ".tmp";

/// Puts octets into a file: into a temporary one beside it, which reaches the disk before it takes the
/// name. `written` is called before the octets are sure to be on the disk, `synced` before the name is taken.
///
/// # Errors
/// The system's. The file is what it was; only an unfinished one may lie beside it.
pub fn write(
    path: &Path,
    octets: &[u8],
    written: impl FnOnce() -> io::Result<()>,
    synced: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = Path::new(&name);
    // The configuration names neighbors and keys: for its owner only.
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(unfinished)?;
    file.write_all(octets)?;
    written()?;
    file.sync_all()?;
    synced()?;
    fs::rename(unfinished, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes a directory, for its owner only, unless it is there, and takes it for this process: nobody else can
/// until the answer is dropped or the process ends.
///
/// # Errors
/// The system's; `WouldBlock` when another process has it.
pub fn occupy(directory: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(directory.join("lock"))?;
    lock.try_lock()?;
    Ok(lock)
}

/// Without this the directory may forget after a power failure what was renamed in it.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
