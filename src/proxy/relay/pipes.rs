//! Pipes for splice(2), kept by each thread for the next connection that moves much.

use std::cell::RefCell;
use std::os::fd::OwnedFd;

use crate::sys::stream;

/// What a pipe should hold: one large read. The kernel may allow less.
pub(super) const CAPACITY: usize = 1 << 20;
/// Idle pipes that a thread keeps; the others are closed.
const KEPT: usize = 64;

/// An empty pipe, or one that is being filled and emptied.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    pub(super) capacity: usize,
}

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe of this thread; None when there are no descriptors for one: octets can be copied as well.
pub(super) fn take() -> Option<Pipe> {
    IDLE.with_borrow_mut(Vec::pop).or_else(|| {
        let (read, write, capacity) = stream::pipe(CAPACITY).ok()?;
        Some(Pipe { read, write, capacity })
    })
}

/// Gives an empty pipe back.
pub(super) fn give_back(pipe: Pipe) {
    IDLE.with_borrow_mut(|idle| {
        if idle.len() < KEPT {
            idle.push(pipe);
        }
    });
}
