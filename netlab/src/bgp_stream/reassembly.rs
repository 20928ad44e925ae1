//! One direction of a TCP connection put back in order: early, repeated, overlapping and missing segments.

use std::collections::BTreeMap;
use std::time::Duration;

use super::framing::{Frame, Framer};
use super::segment::Segment;
use crate::moment::Moment;

/// Bytes kept that arrived before their turn.
const MAX_EARLY_BYTES: usize = 1 << 20;
/// How long a hole is waited for: longer, and the packet was missed by the capture, not by the receiver.
const MAX_HOLE_AGE: Duration = Duration::from_secs(2);

/// What a segment brought about, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The SYN of a connection not yet known.
    Started,
    Frame(Frame),
    /// A hole was given up.
    Lost,
    /// The FIN, and everything before it.
    Ended,
}

/// One direction's state.
#[derive(Debug)]
pub struct Flow {
    /// The sequence number of the SYN, if it was seen.
    syn: Option<u32>,
    /// Stream position of the next byte: the sequence number, carried on beyond 32 bits.
    next: Option<u64>,
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: usize,
    hole_since: Option<Moment>,
    end: Option<u64>,
    ended: bool,
    framer: Framer,
    /// Whether this side's OPEN offered four-octet AS numbers; `None` until one is seen.
    pub offers_as4: Option<bool>,
    pub last_heard: Moment,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow::new()
    }
}

impl Flow {
    pub fn new() -> Flow {
        Flow {
            syn: None,
            next: None,
            early: BTreeMap::new(),
            early_bytes: 0,
            hole_since: None,
            end: None,
            ended: false,
            framer: Framer::mid_stream(),
            offers_as4: None,
            last_heard: Moment::ZERO,
        }
    }

    pub fn handle_segment(&mut self, at: Moment, segment: &Segment<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        if segment.syn {
            // The same SYN again is a retransmission; another one is a new connection on the same ports.
            if self.syn != Some(segment.seq) {
                let first = position(1 << 32, segment.seq) + 1;
                let framer = Framer::at_start();
                *self = Flow { syn: Some(segment.seq), next: Some(first), framer, ..Flow::new() };
                steps.push(Step::Started);
            }
        }
        self.last_heard = at;
        let sequence = segment.seq.wrapping_add(u32::from(segment.syn));
        let start = position(self.next.unwrap_or(1 << 32), sequence);
        if self.next.is_none() {
            self.next = Some(start);
        }
        if segment.fin {
            self.end = Some(start + segment.payload.len() as u64);
        }
        self.keep(start, segment.payload);
        self.advance(&mut steps);
        let hole_is_old = self.hole_since.is_some_and(|since| at.since(since) > MAX_HOLE_AGE);
        if self.early_bytes > MAX_EARLY_BYTES || hole_is_old {
            self.give_up_hole(&mut steps);
        }
        if self.early_bytes == 0 {
            self.hole_since = None;
        } else {
            self.hole_since.get_or_insert(at);
        }
        steps
    }

    fn keep(&mut self, start: u64, payload: &[u8]) {
        if payload.is_empty() || self.next.is_some_and(|next| start + payload.len() as u64 <= next) {
            return;
        }
        let old = self.early.get(&start).map_or(0, Vec::len);
        // Of two segments that begin alike the longer one says more.
        if payload.len() > old {
            self.early_bytes += payload.len() - old;
            self.early.insert(start, payload.to_vec());
        }
    }

    fn advance(&mut self, steps: &mut Vec<Step>) {
        let Some(mut next) = self.next else { return };
        while let Some(entry) = self.early.first_entry()
            && *entry.key() <= next
        {
            let (start, bytes) = entry.remove_entry();
            self.early_bytes -= bytes.len();
            if let Some(fresh) = bytes.get((next - start) as usize..) {
                self.framer.push(fresh);
                next += fresh.len() as u64;
            }
        }
        self.next = Some(next);
        while let Some(frame) = self.framer.poll() {
            steps.push(Step::Frame(frame));
        }
        if self.end == Some(next) && !self.ended {
            self.ended = true;
            steps.push(Step::Ended);
        }
    }

    fn give_up_hole(&mut self, steps: &mut Vec<Step>) {
        let Some((first, _)) = self.early.first_key_value() else { return };
        self.next = Some(*first);
        self.hole_since = None;
        self.framer.lose();
        steps.push(Step::Lost);
        self.advance(steps);
    }
}

/// The stream position nearest to `near` with this sequence number.
fn position(near: u64, sequence: u32) -> u64 {
    let distance = sequence.wrapping_sub(near as u32) as i32;
    near.saturating_add_signed(i64::from(distance))
}
