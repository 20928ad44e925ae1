//! A relay whose client speaks TLS: records are opened and sealed where the octets were received.

use std::io::IoSliceMut;
use std::ops::Range;
use std::task::{Context, Poll};

use super::flow::{Fault, Flow, ROUNDS, Stage, Waits};
use crate::proxy::stream::Stream;
use crate::proxy::tls::record::MOST_PLAIN;
use crate::proxy::tls::session::Session;

/// Records that one read of the backend's octets is cut into.
const RECORDS: usize = 16;
/// The largest record of ours, with everything around it.
const SLOT: usize = MOST_PLAIN + 64;
/// What the shared buffer must hold: the slots, and a close_notify behind them.
pub(super) const BUFFER: usize = RECORDS * SLOT + 64;

/// What a thread's TLS relays share besides the buffer; nothing is in it between two polls.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    plain: Vec<Range<usize>>,
    out: Vec<u8>,
}

/// The client's session, and the part of a record that waits for its other part.
#[derive(Debug)]
pub(super) struct Sealed {
    session: Box<Session>,
    partial: Vec<u8>,
    /// Octets of the backend that were sealed.
    pub(super) sealed: u64,
}

impl Sealed {
    /// `partial`: what the client sent behind its handshake.
    pub(super) fn new(session: Box<Session>, partial: Vec<u8>) -> Self {
        Self { session, partial, sealed: 0 }
    }

    /// A close_notify, behind all that was sealed before.
    pub(super) fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        self.session.close(out);
    }

    /// Octets of our own memory that wait for their record's end.
    pub(super) fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// From the client to the backend. `down` takes what the session itself has to answer.
    pub(super) fn open(
        &mut self,
        context: &mut Context<'_>,
        (client, backend): (&Stream, &Stream),
        (up, down): (&mut Flow, &mut Flow),
        buffer: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<Waits, Fault> {
        if up.is_over() {
            return Ok(Waits::Nothing);
        }
        for round in 0..ROUNDS {
            if up.flush(context, backend)?.is_pending() {
                return Ok(Waits::Sink);
            }
            if self.session.is_closed() {
                up.stage = Stage::Ending;
            }
            if up.stage == Stage::Ending {
                up.finish(backend);
                return Ok(Waits::Nothing);
            }
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            // What came with the handshake may be whole records already.
            let got = if round == 0 && std::mem::take(&mut up.unopened) {
                0
            } else {
                match client.poll_receive(context, &mut buffer[kept..]) {
                    Poll::Pending => return Ok(Waits::Source),
                    Poll::Ready(Err(error)) => return Err(Fault::Source(error)),
                    // Without a close_notify: the backend knows its protocol, and whether that is whole.
                    Poll::Ready(Ok(0)) => {
                        self.partial = Vec::new();
                        up.stage = Stage::Ending;
                        continue;
                    }
                    Poll::Ready(Ok(got)) => got,
                }
            };
            scratch.plain.clear();
            scratch.out.clear();
            let octets = &mut buffer[..kept + got];
            let opened = self.session.open(octets, &mut scratch.plain, &mut scratch.out);
            let done = opened.as_ref().copied().unwrap_or(kept + got);
            if done == kept + got {
                self.partial = Vec::new();
            } else {
                self.partial.clear();
                self.partial.extend_from_slice(&octets[done..]);
            }
            let is_closed = self.session.is_closed();
            let offered = up.offer_from(context, backend, octets, &scratch.plain, is_closed);
            if !scratch.out.is_empty() && !down.is_over() {
                down.keep(&scratch.out);
            }
            offered?;
            opened.map_err(Fault::Tls)?;
            if is_closed {
                up.stage = Stage::Ending;
            }
        }
        Ok(Waits::Turn)
    }

    /// From the backend to the client.
    pub(super) fn seal(
        &mut self,
        context: &mut Context<'_>,
        (client, backend): (&Stream, &Stream),
        down: &mut Flow,
        buffer: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<Waits, Fault> {
        if down.is_over() {
            return Ok(Waits::Nothing);
        }
        for _ in 0..ROUNDS {
            if down.flush(context, client)?.is_pending() {
                return Ok(Waits::Sink);
            }
            if down.stage == Stage::Ending {
                down.finish(client);
                return Ok(Waits::Nothing);
            }
            scratch.out.clear();
            self.session.renew(&mut scratch.out).map_err(Fault::Tls)?;
            if !scratch.out.is_empty() {
                down.offer(context, client, &scratch.out, true)?;
                if down.held() > 0 {
                    return Ok(Waits::Sink);
                }
            }
            let (before, behind) = self.session.margins();
            let slot = before + MOST_PLAIN + behind;
            let got = {
                let mut places = buffer[..RECORDS * slot].chunks_exact_mut(slot);
                let mut places: [IoSliceMut<'_>; RECORDS] = std::array::from_fn(|_| {
                    let slot = places.next().expect("there are as many slots as records");
                    IoSliceMut::new(&mut slot[before..before + MOST_PLAIN])
                });
                match backend.poll_receive_into(context, &mut places, RECORDS * MOST_PLAIN) {
                    Poll::Pending => return Ok(Waits::Source),
                    Poll::Ready(Err(error)) => return Err(Fault::Source(error)),
                    Poll::Ready(Ok(got)) => got,
                }
            };
            let mut end = 0;
            let mut left = got;
            while left > 0 {
                let plain = left.min(MOST_PLAIN);
                let record = &mut buffer[end..end + before + plain + behind];
                self.session.seal(record);
                end += record.len();
                left -= plain;
            }
            self.sealed += got as u64;
            // The end is there already: our close_notify and it travel with the last octets.
            let ended = got == 0 || (!down.source_is_gone && backend.is_at_end());
            scratch.out.clear();
            if ended && down.source_is_gone {
                down.stage = Stage::Ending;
            } else if ended {
                self.session.close(&mut scratch.out);
                buffer[end..end + scratch.out.len()].copy_from_slice(&scratch.out);
                end += scratch.out.len();
                down.stage = Stage::Ending;
            }
            down.offer(context, client, &buffer[..end], ended)?;
        }
        Ok(Waits::Turn)
    }
}
