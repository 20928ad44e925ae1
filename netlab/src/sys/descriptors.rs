//! How many file descriptors this process may have.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Kept for everything else.
const OTHERS: u64 = 1024;

/// Raises the soft limit so that this many sockets fit beside everything else, or as far as it can be raised.
///
/// # Errors
/// When that is not enough, or the kernel refuses.
pub fn allow(sockets: usize) -> io::Result<()> {
    let wanted = sockets as u64 + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Root may go beyond; whoever may not gets what there is.
    if hard < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted.clamp(soft, hard), hard)?;
    if hard < wanted {
        return Err(io::Error::other(format!(
            "{wanted} are needed, the limit is {hard}: raise `ulimit -Hn`"
        )));
    }
    Ok(())
}
