//! One direction of a connection: what was read and has not been sent, and how the next octets move.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use super::pipes::{self, Pipe};
use crate::proxy::stream::Stream;
use crate::proxy::tls::session::TlsError;

/// A read of so much, or what fills the buffer, is a large one: moving pages costs less than copying them twice.
const LARGE: usize = 32 << 10;
/// After so many large reads in a row octets are spliced.
const LARGE_READS: u8 = 2;
/// A splice of less than this was not worth its pipe.
const SMALL: usize = 16 << 10;
/// After so many small splices in a row octets are copied again.
const SMALL_SPLICES: u8 = 8;
/// Rounds of one direction before others have their turn.
pub(super) const ROUNDS: u32 = 8;

/// Places that one system call sends from.
const MOST_PLACES: usize = 32;

/// How far a direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// The source has ended; what rests is still to be sent.
    Ending,
    /// The end has been passed on.
    Done,
    /// The sink takes no more: what the source still sends is of no use.
    Broken,
}

/// Which side an error came from.
#[derive(Debug)]
pub(super) enum Fault {
    Source(io::Error),
    Sink(io::Error),
    /// The session with the client cannot go on.
    Tls(TlsError),
}

/// What a direction waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    Source,
    Sink,
    /// Its next turn: there is more, but others come first.
    Turn,
    Nothing,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) stage: Stage,
    /// Octets handed to the sink's kernel.
    pub(super) carried: u64,
    /// The source is known to be gone: what looks like its end is none to pass on.
    pub(super) source_is_gone: bool,
    /// The other direction has finished: the sink is closed next, which tells it the end as well.
    pub(super) is_last: bool,
    /// There are octets of the client in memory that have not been looked at.
    pub(super) unopened: bool,
    way: Way,
    /// Read and not sent; freed when empty.
    rest: Rest,
}

/// How octets move, and how many times in a row the other way would have been better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Copy { large: u8 },
    Splice { small: u8 },
}

impl Way {
    const BEGIN: Self = Self::Copy { large: 0 };

    /// After so many octets were moved at once.
    fn after(self, moved: usize, is_full: bool) -> Self {
        match self {
            Self::Copy { large } if is_full || moved >= LARGE => match large + 1 {
                LARGE_READS => Self::Splice { small: 0 },
                large => Self::Copy { large },
            },
            Self::Splice { small } if moved < SMALL => match small + 1 {
                SMALL_SPLICES => Self::BEGIN,
                small => Self::Splice { small },
            },
            Self::Copy { .. } => Self::BEGIN,
            Self::Splice { .. } => Self::Splice { small: 0 },
        }
    }
}

#[derive(Debug)]
enum Rest {
    Nothing,
    Octets { octets: Box<[u8]>, sent: usize },
    InPipe { pipe: Pipe, held: usize },
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Open,
            carried: 0,
            source_is_gone: false,
            is_last: false,
            unopened: false,
            way: Way::BEGIN,
            rest: Rest::Nothing,
        }
    }

    /// Whether nothing moves here any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Broken)
    }

    /// Octets of our own memory that wait for the sink.
    pub(super) fn held(&self) -> usize {
        match &self.rest {
            Rest::Octets { octets, .. } => octets.len(),
            Rest::Nothing | Rest::InPipe { .. } => 0,
        }
    }

    /// Puts octets before all that is read from now on.
    pub(super) fn begin_with(&mut self, octets: Vec<u8>) {
        debug_assert!(matches!(self.rest, Rest::Nothing));
        if !octets.is_empty() {
            self.rest = Rest::Octets { octets: octets.into_boxed_slice(), sent: 0 };
        }
    }

    /// Moves what can be moved now. `buffer` is scratch.
    pub(super) fn pump(
        &mut self,
        context: &mut Context<'_>,
        source: &Stream,
        sink: &Stream,
        buffer: &mut [u8],
    ) -> Result<Waits, Fault> {
        if self.is_over() {
            return Ok(Waits::Nothing);
        }
        for _ in 0..ROUNDS {
            if self.flush(context, sink)?.is_pending() {
                return Ok(Waits::Sink);
            }
            if self.stage == Stage::Ending {
                self.finish(sink);
                return Ok(Waits::Nothing);
            }
            let waits = match self.way {
                Way::Copy { .. } => self.copy(context, source, sink, buffer)?,
                Way::Splice { .. } => self.splice(context, source)?,
            };
            if let Some(waits) = waits {
                return Ok(waits);
            }
        }
        Ok(Waits::Turn)
    }

    /// Passes the source's end on, behind all that was sent.
    pub(super) fn finish(&mut self, sink: &Stream) {
        if !self.source_is_gone && !self.is_last {
            sink.finish();
        }
        self.stage = Stage::Done;
    }

    /// Sends what rests.
    pub(super) fn flush(&mut self, context: &mut Context<'_>, sink: &Stream) -> Result<Poll<()>, Fault> {
        loop {
            let moved = match &self.rest {
                Rest::Nothing => return Ok(Poll::Ready(())),
                Rest::Octets { octets, sent } => sink.poll_send(context, &octets[*sent..], false),
                Rest::InPipe { pipe, held } => sink.poll_splice_out(context, pipe.read.as_fd(), *held),
            };
            match moved {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Err(error)) => return Err(Fault::Sink(error)),
                Poll::Ready(Ok(moved)) => self.settle(moved),
            }
        }
    }

    /// Takes off what was sent of the rest.
    fn settle(&mut self, moved: usize) {
        self.carried += moved as u64;
        match &mut self.rest {
            Rest::Octets { octets, sent } if *sent + moved < octets.len() => *sent += moved,
            Rest::InPipe { held, .. } if moved < *held => *held -= moved,
            _ => {
                if let Rest::InPipe { pipe, .. } = std::mem::replace(&mut self.rest, Rest::Nothing) {
                    pipes::give_back(pipe);
                }
            }
        }
    }

    /// Sends octets that are nobody's yet, and keeps what finds no room.
    pub(super) fn offer(
        &mut self,
        context: &mut Context<'_>,
        sink: &Stream,
        octets: &[u8],
        more: bool,
    ) -> Result<(), Fault> {
        let mut sent = 0;
        while sent < octets.len() {
            match sink.poll_send(context, &octets[sent..], more) {
                Poll::Ready(Ok(moved)) => sent += moved,
                Poll::Ready(Err(error)) => return Err(Fault::Sink(error)),
                Poll::Pending => {
                    self.rest = Rest::Octets { octets: octets[sent..].into(), sent: 0 };
                    break;
                }
            }
        }
        self.carried += sent as u64;
        Ok(())
    }

    /// The same from several places in a buffer.
    pub(super) fn offer_from(
        &mut self,
        context: &mut Context<'_>,
        sink: &Stream,
        buffer: &[u8],
        places: &[Range<usize>],
        more: bool,
    ) -> Result<(), Fault> {
        for some in places.chunks(MOST_PLACES) {
            let all: usize = some.iter().map(ExactSizeIterator::len).sum();
            let mut slices = [IoSlice::new(&[]); MOST_PLACES];
            for (slice, place) in slices.iter_mut().zip(some) {
                *slice = IoSlice::new(&buffer[place.clone()]);
            }
            let sent = match self.rest {
                Rest::Nothing => match sink.poll_send_from(context, &slices[..some.len()], more) {
                    Poll::Ready(Ok(sent)) => sent,
                    Poll::Ready(Err(error)) => return Err(Fault::Sink(error)),
                    Poll::Pending => 0,
                },
                _ => 0,
            };
            self.carried += sent as u64;
            if sent < all {
                let mut left = sent;
                let mut rest = Vec::with_capacity(all - sent);
                for place in some {
                    let skipped = left.min(place.len());
                    left -= skipped;
                    rest.extend_from_slice(&buffer[place.start + skipped..place.end]);
                }
                self.keep(&rest);
            }
        }
        Ok(())
    }

    /// Puts octets behind all that waits for the sink already.
    pub(super) fn keep(&mut self, octets: &[u8]) {
        debug_assert!(!matches!(self.rest, Rest::InPipe { .. }), "what is spliced is never mixed");
        let mut rest = match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Octets { octets, sent } => octets[sent..].to_vec(),
            other => {
                self.rest = other;
                Vec::with_capacity(octets.len())
            }
        };
        rest.extend_from_slice(octets);
        if !rest.is_empty() {
            self.rest = Rest::Octets { octets: rest.into_boxed_slice(), sent: 0 };
        }
    }

    /// One read and what can be sent of it. Some: there is nothing to do for now.
    fn copy(
        &mut self,
        context: &mut Context<'_>,
        source: &Stream,
        sink: &Stream,
        buffer: &mut [u8],
    ) -> Result<Option<Waits>, Fault> {
        let mut got = match source.poll_receive(context, buffer) {
            Poll::Pending => return Ok(Some(Waits::Source)),
            Poll::Ready(Err(error)) => return Err(Fault::Source(error)),
            Poll::Ready(Ok(got)) => got,
        };
        // The end is there already: let it travel with the last octets.
        let mut ended = got == 0;
        let mut failed = None;
        while !ended && got < buffer.len() && source.is_ending() {
            match source.poll_receive(context, &mut buffer[got..]) {
                Poll::Ready(Ok(0)) => ended = true,
                Poll::Ready(Ok(more)) => got += more,
                Poll::Pending => break,
                Poll::Ready(Err(error)) => {
                    // The kernel tells it once; the octets before it still go.
                    failed = Some(Fault::Source(error));
                    break;
                }
            }
        }
        self.way = self.way.after(got, got == buffer.len());
        self.offer(context, sink, &buffer[..got], ended)?;
        if let Some(fault) = failed {
            return Err(fault);
        }
        if ended {
            self.stage = Stage::Ending;
        }
        Ok(None)
    }

    /// Fills a pipe, which the next round empties.
    fn splice(&mut self, context: &mut Context<'_>, source: &Stream) -> Result<Option<Waits>, Fault> {
        let Some(pipe) = pipes::take() else {
            self.way = Way::BEGIN;
            return Ok(None);
        };
        match source.poll_splice_in(context, pipe.write.as_fd(), pipe.capacity) {
            Poll::Ready(Ok(0)) => {
                pipes::give_back(pipe);
                self.stage = Stage::Ending;
                Ok(None)
            }
            Poll::Ready(Ok(held)) => {
                self.way = self.way.after(held, false);
                self.rest = Rest::InPipe { pipe, held };
                Ok(None)
            }
            Poll::Ready(Err(error)) => {
                pipes::give_back(pipe);
                match error.kind() {
                    // A kernel or a socket that cannot splice: copy.
                    io::ErrorKind::InvalidInput => {
                        self.way = Way::BEGIN;
                        Ok(None)
                    }
                    _ => Err(Fault::Source(error)),
                }
            }
            Poll::Pending => {
                pipes::give_back(pipe);
                Ok(Some(Waits::Source))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many octets moved at a time, and whether they were spliced next.
    fn follow(moves: &[(usize, bool)]) {
        let mut way = Way::BEGIN;
        for (index, (moved, is_spliced)) in moves.iter().enumerate() {
            way = way.after(*moved, false);
            assert_eq!(matches!(way, Way::Splice { .. }), *is_spliced, "move {index}: {way:?}");
        }
    }

    #[test]
    fn much_in_a_row_is_spliced_and_little_in_a_row_is_copied() {
        follow(&[(100, false), (LARGE, false), (100, false), (LARGE, false), (LARGE, true)]);
        let mut moves = vec![(LARGE, false), (LARGE, true)];
        moves.extend([(SMALL - 1, true); SMALL_SPLICES as usize - 1]);
        // One that was worth it, and the count begins anew.
        moves.push((SMALL, true));
        moves.extend([(SMALL - 1, true); SMALL_SPLICES as usize - 1]);
        moves.push((SMALL - 1, false));
        moves.extend([(LARGE, false), (LARGE, true)]);
        follow(&moves);
        // A buffer that is smaller than what is large, and full each time.
        assert_eq!(Way::BEGIN.after(10, true).after(10, true), Way::Splice { small: 0 });
    }
}
