//! Carries octets both ways between a client and a backend until both have finished, or one of them is gone.
//!
//! A connection keeps no buffer: octets are read into one that its thread shares, sent on at once, and only what the
//! other side has no room for is kept. While something is kept nobody reads more: that is all the back-pressure there is.

mod flow;
mod pipes;
mod sealed;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use flow::{Fault, Flow, Stage, Waits};

use self::sealed::{BUFFER, Scratch, Sealed};
use super::stream::Stream;
use super::tls::session::{Session, TlsError};

thread_local! {
    /// What one thread reads into.
    static SCRATCH: RefCell<(Box<[u8]>, Scratch)> =
        RefCell::new((vec![0; BUFFER].into_boxed_slice(), Scratch::default()));
}

/// Which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Backend,
}

/// How a relay ended, and what it carried.
#[derive(Debug)]
pub struct Outcome {
    pub end: RelayEnd,
    /// Octets from the client that the backend's socket took.
    pub up: u64,
    /// Octets from the backend that the client's socket took.
    pub down: u64,
}

/// How a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both sides said that they have finished.
    Finished,
    /// A side reset the connection, or its kernel gave up on it; the other has been reset too.
    Failed(Side, io::Error),
    /// The client's TLS session cannot go on; it has been told, and the backend was reset.
    Tls(TlsError),
    /// Nothing moved for too long; both have been reset.
    Idle,
    /// It was time to go; a TLS client was told, others were reset.
    Drained,
    /// The process holds too much for others already; both have been reset.
    Overloaded,
}

/// Why a relay is ended that could go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing moved for too long.
    Idle,
    /// The process, or this address, takes its leave.
    Drained,
}

/// The bounds of a relay, as somebody else knows them.
pub trait Patience {
    /// Something moved; `half_closed` once one side has finished.
    /// `up` and `down` are the octets carried so far.
    fn handle_progress(&mut self, half_closed: bool, up: u64, down: u64);
    /// So many octets wait in memory now, for this connection. False: that is too much for the process.
    fn may_hold(&mut self, octets: usize) -> bool;
    /// Whether the time is over. Whoever polls is woken when it is.
    fn is_over(&mut self, context: &mut Context<'_>) -> Option<Over>;
}

/// A running relay.
#[derive(Debug)]
pub struct Relay<P> {
    client: Stream,
    backend: Stream,
    up: Flow,
    down: Flow,
    sealed: Option<Box<Sealed>>,
    patience: P,
    /// A side that takes nothing more, and why: told once the other direction is over too.
    broken: Option<(Side, io::Error)>,
    over: bool,
}

impl<P: Patience + Unpin> Relay<P> {
    /// `first`: what the client has said already, and what the backend is to be told before, in that order.
    #[must_use]
    pub fn new(client: Stream, backend: Stream, first: Vec<u8>, patience: P) -> Self {
        let mut up = Flow::new();
        up.begin_with(first);
        Self { client, backend, up, down: Flow::new(), sealed: None, patience, broken: None, over: false }
    }

    /// The client speaks TLS. `opened` is what it has said in the session already, `unopened` what follows in records.
    #[must_use]
    pub fn sealed(mut self, session: Box<Session>, unopened: Vec<u8>) -> Self {
        self.up.unopened = !unopened.is_empty();
        self.sealed = Some(Box::new(Sealed::new(session, unopened)));
        self
    }

    /// Octets carried so far, up and down; as they were before they were sealed.
    #[must_use]
    pub fn carried(&self) -> (u64, u64) {
        (self.up.carried, self.sealed.as_ref().map_or(self.down.carried, |sealed| sealed.sealed))
    }

    /// Octets of our own memory that wait for somebody.
    fn held(&self) -> usize {
        self.up.held() + self.down.held() + self.sealed.as_ref().map_or(0, |sealed| sealed.held())
    }

    /// A TLS client is told in its own words; whoever is in the middle of something is reset.
    fn take_leave(&mut self) -> RelayEnd {
        self.backend.reset_on_drop();
        if let Some(sealed) = &mut self.sealed {
            let mut out = Vec::new();
            sealed.say_goodbye(&mut out);
            self.down.keep(&out);
            let said = self.down.flush(&mut Context::from_waker(Waker::noop()), &self.client);
            if matches!(said, Ok(Poll::Ready(()))) {
                return RelayEnd::Drained;
            }
        }
        self.client.reset_on_drop();
        RelayEnd::Drained
    }

    fn give_up(&self, end: RelayEnd) -> RelayEnd {
        self.client.reset_on_drop();
        self.backend.reset_on_drop();
        end
    }

    fn pump(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        scratch: &mut Scratch,
    ) -> Poll<RelayEnd> {
        let sides = (&self.client, &self.backend);
        self.up.is_last = self.down.stage == Stage::Done;
        let up = match &mut self.sealed {
            None => self.up.pump(context, sides.0, sides.1, buffer),
            Some(sealed) => sealed.open(context, sides, (&mut self.up, &mut self.down), buffer, scratch),
        };
        let up = match up.or_else(|fault| self.take_fault(fault, Side::Client)) {
            Ok(waits) => waits,
            Err(end) => return Poll::Ready(end),
        };
        let sides = (&self.client, &self.backend);
        self.down.is_last = self.up.stage == Stage::Done;
        let down = match &mut self.sealed {
            None => self.down.pump(context, sides.1, sides.0, buffer),
            Some(sealed) => sealed.seal(context, sides, &mut self.down, buffer, scratch),
        };
        let down = match down.or_else(|fault| self.take_fault(fault, Side::Backend)) {
            Ok(waits) => waits,
            Err(end) => return Poll::Ready(end),
        };
        if self.up.is_over() && self.down.is_over() {
            return Poll::Ready(match self.broken.take() {
                None => RelayEnd::Finished,
                Some((side, error)) => self.fail(side, error),
            });
        }
        // A client that is gone is noticed also while nobody reads from it. A backend's last octets are worth having,
        // so its RST may wait until they are delivered.
        if up == Waits::Sink
            && let Poll::Ready(error) = self.client.poll_reset(context)
        {
            return Poll::Ready(self.fail(Side::Client, error));
        }
        if up == Waits::Turn || down == Waits::Turn {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// A fault of a direction whose octets come from `source`.
    fn take_fault(&mut self, fault: Fault, source: Side) -> Result<Waits, RelayEnd> {
        let (flow, sink) = match source {
            Side::Client => (&mut self.up, Side::Backend),
            Side::Backend => (&mut self.down, Side::Client),
        };
        match fault {
            Fault::Tls(error) => {
                // The alert goes if there is room for it; nobody waits for that.
                let _ = self.down.flush(&mut Context::from_waker(Waker::noop()), &self.client);
                self.backend.reset_on_drop();
                Err(RelayEnd::Tls(error))
            }
            Fault::Source(error) => Err(self.fail(source, error)),
            // What it has said before may still be on its way: its own direction tells the end.
            Fault::Sink(error) => {
                flow.stage = Stage::Broken;
                // The kernel tells of a RST once: whoever reads there now would take it for an orderly end.
                match source {
                    Side::Client => self.down.source_is_gone = true,
                    Side::Backend => self.up.source_is_gone = true,
                }
                self.broken.get_or_insert((sink, error));
                Ok(Waits::Nothing)
            }
        }
    }

    /// Both sides are reset when they are dropped: neither may take this for an orderly end.
    fn fail(&mut self, side: Side, error: io::Error) -> RelayEnd {
        self.client.reset_on_drop();
        self.backend.reset_on_drop();
        // The first that was seen of it says more than what followed.
        let error = match self.broken.take() {
            Some((broken, first)) if broken == side => first,
            _ => error,
        };
        RelayEnd::Failed(side, error)
    }
}

impl<P: Patience + Unpin> Future for Relay<P> {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        let before = this.up.carried + this.down.carried;
        let polled = SCRATCH.with_borrow_mut(|(buffer, scratch)| this.pump(context, buffer, scratch));
        let moved = this.up.carried + this.down.carried != before;
        let end = match polled {
            Poll::Ready(end) => end,
            Poll::Pending => {
                if moved {
                    let (up, down) = this.carried();
                    this.patience.handle_progress(this.up.is_over() || this.down.is_over(), up, down);
                }
                if !this.patience.may_hold(this.held()) {
                    this.give_up(RelayEnd::Overloaded)
                } else {
                    match this.patience.is_over(context) {
                        None => return Poll::Pending,
                        Some(Over::Idle) => this.give_up(RelayEnd::Idle),
                        Some(Over::Drained) => this.take_leave(),
                    }
                }
            }
        };
        this.patience.may_hold(0);
        this.over = true;
        let (up, down) = this.carried();
        Poll::Ready(Outcome { end, up, down })
    }
}

impl<P> Drop for Relay<P> {
    fn drop(&mut self) {
        // Cut short by a stop: neither side may take this for an orderly end.
        if !self.over {
            self.client.reset_on_drop();
            self.backend.reset_on_drop();
        }
    }
}

#[cfg(test)]
mod tests;
