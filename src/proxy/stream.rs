//! One nonblocking socket under the runtime's watch: the seam between the relay and the kernel.
//!
//! Whoever wants to try another engine than epoll replaces this file. A call that finds nothing to do asks to be woken,
//! and answers `Pending`.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use crate::sys::stream as kernel;

/// A connected stream socket.
#[derive(Debug)]
pub struct Stream {
    fd: AsyncFd<OwnedFd>,
    /// There may be octets whose edge has been consumed, or has not come yet: try before waiting.
    unread: Cell<bool>,
    /// There was no room the last time: wait before trying.
    full: Cell<bool>,
    nagle: Cell<Nagle>,
}

/// Whether the kernel may hold back small segments. A first one it never does, so a connection that sends only one
/// need not forbid it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nagle {
    Unsent,
    SentOnce,
    Forbidden,
}

impl Stream {
    /// Takes over a nonblocking socket. `accepted`: its listener's small segments leave at once, so its own do; and
    /// there is probably something to read already.
    ///
    /// # Errors
    /// The kernel's: no room for another watch.
    pub fn new(socket: OwnedFd, accepted: bool) -> io::Result<Self> {
        let nagle = if accepted { Nagle::Forbidden } else { Nagle::Unsent };
        Ok(Self {
            fd: kernel::watch(socket)?,
            unread: Cell::new(accepted),
            full: Cell::new(false),
            nagle: Cell::new(nagle),
        })
    }

    /// Receives at most the buffer's length, which is not 0; `Ok(0)` is the end of the stream.
    pub fn poll_receive(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let most = buffer.len();
        self.poll_in(context, most, |fd| kernel::receive(fd, buffer))
    }

    /// The same into several places, `most` octets in all.
    pub fn poll_receive_into(
        &self,
        context: &mut Context<'_>,
        places: &mut [IoSliceMut<'_>],
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_in(context, most, |fd| kernel::receive_into(fd, places))
    }

    fn poll_in(
        &self,
        context: &mut Context<'_>,
        most: usize,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.unread.take() {
            match act(self.as_fd()) {
                Err(error) if is_retry(&error) => {}
                Ok(got) => {
                    // What its edge told of may still be there.
                    self.unread.set(got == most);
                    if got < most && !self.has(Interest::PRIORITY) {
                        self.forget_edge();
                    }
                    return Poll::Ready(Ok(got));
                }
                done => return Poll::Ready(done),
            }
        }
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(context))?;
            match act(self.as_fd()) {
                Ok(got) => {
                    // Drained: the next octet is a new edge. Unless there is an end to be read as well, or an urgent
                    // mark, at which the kernel stops short (tcp(7)).
                    if got < most && !self.has(Interest::PRIORITY) {
                        guard.clear_ready_matching(Ready::READABLE);
                    }
                    return Poll::Ready(Ok(got));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends what finds room, at least one octet.
    pub fn poll_send(&self, context: &mut Context<'_>, octets: &[u8], more: bool) -> Poll<io::Result<usize>> {
        self.poll_out(context, |fd| kernel::send(fd, octets, more))
    }

    /// Sends what finds room of several places.
    pub fn poll_send_from(
        &self,
        context: &mut Context<'_>,
        places: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        self.poll_out(context, |fd| kernel::send_from(fd, places, more))
    }

    /// Whether everything has been read and the end of the stream is next.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.is_ending() && kernel::is_at_end(self.as_fd())
    }

    /// Moves what is there into a pipe that is empty; `Ok(0)` is the end of the stream.
    pub fn poll_splice_in(
        &self,
        context: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.unread.take() {
            match kernel::splice(self.as_fd(), pipe, most, false) {
                Err(error) if is_retry(&error) => {}
                done => {
                    // Only a pipe or a socket that is empty proves that nothing is left of what an edge told of.
                    self.unread.set(matches!(done, Ok(moved) if moved > 0));
                    return Poll::Ready(done);
                }
            }
        }
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(context))?;
            match kernel::splice(self.as_fd(), pipe, most, false) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Moves octets out of a pipe that holds at least `most`.
    pub fn poll_splice_out(
        &self,
        context: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_out(context, |fd| kernel::splice(pipe, fd, most, false))
    }

    /// Waits until a connection that was begun is there.
    pub fn poll_connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = ready!(self.fd.poll_write_ready(context))?;
        drop(guard);
        if !self.has(Interest::ERROR) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(kernel::pending_error(self.as_fd()).map_or(Ok(()), Err))
    }

    /// Waits for a RST while nobody reads: readers that are held back would learn of it when they go on.
    pub fn poll_reset(&self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            if self.has(Interest::ERROR) {
                let error = kernel::pending_error(self.as_fd());
                return Poll::Ready(error.unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()));
            }
            // Its end has come already, and that edge stays: what follows is seen when somebody sends.
            if self.is_ending() {
                return Poll::Pending;
            }
            match ready!(self.fd.poll_read_ready(context)) {
                Ok(mut guard) => {
                    self.unread.set(true);
                    guard.clear_ready();
                }
                Err(error) => return Poll::Ready(error),
            }
        }
    }

    /// Tells the other side that nothing more will come.
    pub fn finish(&self) {
        kernel::shut_down(self.as_fd(), Shutdown::Write);
    }

    /// Tells the other side, when this is dropped, that it has been given up.
    pub fn reset_on_drop(&self) {
        kernel::reset_on_close(self.as_fd());
    }

    /// Whether the other side's end has been seen by the kernel, read or not.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.has(Interest::PRIORITY)
    }

    fn poll_out(
        &self,
        context: &mut Context<'_>,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match self.nagle.get() {
            Nagle::Forbidden => {}
            Nagle::Unsent => self.nagle.set(Nagle::SentOnce),
            Nagle::SentOnce => {
                kernel::send_at_once(self.as_fd());
                self.nagle.set(Nagle::Forbidden);
            }
        }
        if !self.full.get() {
            match act(self.as_fd()) {
                Err(error) if is_retry(&error) => self.full.set(true),
                done => return Poll::Ready(done),
            }
        }
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(context))?;
            match act(self.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => {
                    self.full.set(false);
                    return Poll::Ready(done);
                }
            }
        }
    }

    /// What the last edge told of has been read.
    fn forget_edge(&self) {
        // A try that finds nothing is how the watch is told.
        let _ = self.fd.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }

    /// Whether the last edges told of this; urgent data and the end of the stream share a bit.
    fn has(&self, interest: Interest) -> bool {
        self.fd.try_io(interest, |_| Ok(())).is_ok()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
