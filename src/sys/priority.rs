//! A thread's share of the processor.
#![expect(unsafe_code, reason = "per-thread nice values have no safe binding")]

use std::io;

/// Puts the calling thread before ordinary ones (nice −10), so that a busy machine delays neither
/// a keepalive nor a withdrawal.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_NICE; the thread goes on as before.
pub fn raise_this_thread() -> io::Result<()> {
    // On Linux a thread id is taken where POSIX says process: nice values belong to threads.
    // SAFETY: takes and returns plain integers.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, -10) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
