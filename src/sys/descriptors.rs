//! How many file descriptors the process may have.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one and answers it: every backend holds a descriptor, every
/// probe another, and 1,024 is a default for programs that use select(2).
///
/// # Errors
/// The kernel's; the limit stays what it was.
pub fn raise_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}
