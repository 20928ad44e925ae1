//! The Unix socket's file: made for its owner only, replaced when stale, removed at the end.
#![expect(clippy::disallowed_methods, reason = "driver: bounds the stale check in time")]

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::{Mode, fchmod};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::timeout;

use super::AdminError;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;
/// Whether a socket file is stale is found out within this time.
const STALE_CHECK_TIME: Duration = Duration::from_secs(1);

/// A socket file that is removed with its owner, unless somebody put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Option<Identity>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, mode 0600, making its directory (0755) where it is missing.
pub(super) async fn open(path: &Path) -> Result<(UnixListener, SocketFile), AdminError> {
    let failed = |cause: io::Error| AdminError::Socket { path: path.to_owned(), cause };
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(failed)?;
    }
    remove_stale(path).await?;
    let socket = UnixSocket::new_stream().map_err(failed)?;
    // Before it is bound: the file never exists with another mode, whatever the umask.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed(errno.into()))?;
    socket.bind(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path) };
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    Ok((listener, file))
}

/// Removes a socket file that a killed process left; anything else in the way is an error.
async fn remove_stale(path: &Path) -> Result<(), AdminError> {
    let failed = |cause: io::Error| AdminError::Socket { path: path.to_owned(), cause };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed(cause)),
        Ok(file) if !file.file_type().is_socket() => return Err(AdminError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match timeout(STALE_CHECK_TIME, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Ok(Err(cause)) if cause.kind() != io::ErrorKind::WouldBlock => Err(failed(cause)),
        // Too busy to take a connection is alive, too.
        _ => Err(AdminError::AlreadyRunning(path.to_owned())),
    }
}

/// Device, inode, and when it was made: a file system gives a freed inode number to the next file.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn is_for_its_owner_only_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/edgeproxy/edgeproxy.sock");
        let (_listener, file) = open(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (listener, file) = open(&path).await.unwrap();
        assert!(matches!(open(&path).await, Err(AdminError::AlreadyRunning(_))));
        // As after kill -9: the file stays, nobody listens.
        drop(listener);
        // Time stamps of files move by the tick of the kernel, up to 10 ms.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let (_listener, _file) = open(&path).await.unwrap();
        drop(file);
        assert!(path.exists(), "an earlier owner must not remove the file of a later one");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(open(&path).await, Err(AdminError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
