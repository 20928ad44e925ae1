//! Which processor a thread and its children run on.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// One processor for what is measured, another for everything that measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    pub proxy: usize,
    pub load: usize,
}

impl Cores {
    /// The last and the first processor that this process may use.
    ///
    /// # Errors
    /// When there is only one.
    pub fn choose() -> io::Result<Self> {
        let allowed = sched_getaffinity(this_thread())?;
        let mut allowed = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        match (allowed.next(), allowed.next_back()) {
            (Some(load), Some(proxy)) => Ok(Self { proxy, load }),
            _ => Err(io::Error::other("the bench needs two processors: one for the proxy, one for the load")),
        }
    }
}

/// Binds the calling thread, and what it starts from now on, to one processor.
///
/// # Errors
/// The kernel's.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(this_thread(), &set)?)
}

/// Runs a closure bound to a processor; what it starts stays there, the caller comes back.
///
/// # Errors
/// The kernel's.
pub fn pinned<T>(cpu: usize, work: impl FnOnce() -> T) -> io::Result<T> {
    let before = sched_getaffinity(this_thread())?;
    pin(cpu)?;
    let done = work();
    sched_setaffinity(this_thread(), &before)?;
    Ok(done)
}

fn this_thread() -> Pid {
    Pid::from_raw(0)
}
