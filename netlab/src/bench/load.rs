//! The load side of a bench: one thread, one epoll, closed or open loops, and what is counted.

pub mod bulk;
pub mod exchange;
pub mod idle;
pub mod open;

use std::io;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};

/// An answer that takes longer is a broken connection.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// A load that can be run for a while, looked at, and run on.
pub trait Load {
    /// Works until then.
    ///
    /// # Errors
    /// The kernel's, when no load can be made at all; what happens to a connection is counted instead.
    fn run(&mut self, until: Instant) -> io::Result<()>;

    /// What got through since it began: exchanges, connections or octets.
    fn work(&self) -> f64;

    /// What did not.
    fn broken(&self) -> &Broken;
}

/// Connections that did not end as they should.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broken {
    pub count: u64,
    /// What the first of them saw.
    pub first: Option<String>,
}

impl Broken {
    /// Counts one.
    pub fn add(&mut self, why: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(why);
    }
}

pub(super) fn epoll() -> io::Result<Epoll> {
    Ok(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?)
}

/// How many events came until `until`; `None` when the time is over.
pub(super) fn wait(epoll: &Epoll, events: &mut [EpollEvent], until: Instant) -> io::Result<Option<usize>> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(None);
    }
    // Rounded up: a wait of nothing would spin.
    let wait = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
    match epoll.wait(events, EpollTimeout::from(wait)) {
        Ok(count) => Ok(Some(count)),
        Err(nix::errno::Errno::EINTR) => Ok(Some(0)),
        Err(error) => Err(error.into()),
    }
}
