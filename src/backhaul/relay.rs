//! Sealed datagrams of two POPs, carried by a third: it cannot open them, and nobody can use another's source.
//!
//! ```text
//!  0      1     2      4
//! ┌──────┬─────┬──────┬──────────────────┐
//! │ kind │  0  │ place│ sealed datagram  │   1: carry it to that place   2: carried from that place
//! └──────┴─────┴──────┴──────────────────┘
//! ```

use std::time::Instant;

use crate::config::sixpn::Place;

/// Octets in front of the datagram.
pub const HEAD: usize = 4;
/// Datagrams that are carried for others, per second, and at once.
const RATE: u64 = 50_000;
const BURST: u64 = 10_000;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'d> {
    /// Carry the datagram to this place.
    To(Place, &'d [u8]),
    /// The datagram was carried from this place.
    From(Place, &'d [u8]),
}

/// What is to be done with a frame that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act<'d> {
    /// Send it on to this place, as [`Frame::From`] the one it came from.
    Carry(Place, &'d [u8]),
    /// Give it to our own plane, as something of this place.
    Take(Place, &'d [u8]),
}

impl Frame<'_> {
    /// The octets in front of the datagram.
    #[must_use]
    pub fn head(&self) -> [u8; HEAD] {
        let (kind, place) = match self {
            Self::To(place, _) => (1, place),
            Self::From(place, _) => (2, place),
        };
        let place = place.number().to_be_bytes();
        [kind, 0, place[0], place[1]]
    }
}

/// Reads a frame. None: it is none.
#[must_use]
pub fn read(octets: &[u8]) -> Option<Frame<'_>> {
    let (head, datagram) = octets.split_first_chunk::<HEAD>()?;
    let place = Place::from_number(u16::from_be_bytes([head[2], head[3]]))?;
    match (head[0], datagram.is_empty()) {
        (1, false) => Some(Frame::To(place, datagram)),
        (2, false) => Some(Frame::From(place, datagram)),
        _ => None,
    }
}

/// How much is carried for others.
#[derive(Debug)]
pub struct Carrier {
    allowed: bool,
    tokens: u64,
    filled: Instant,
    pub carried: u64,
    pub dropped: u64,
}

impl Carrier {
    #[must_use]
    pub fn new(allowed: bool, now: Instant) -> Self {
        Self { allowed, tokens: BURST, filled: now, carried: 0, dropped: 0 }
    }

    pub fn set_allowed(&mut self, allowed: bool) {
        self.allowed = allowed;
    }

    /// Judges a frame that came from `source`. A frame is carried once: what was carried already is for us or for nobody.
    ///
    /// INVARIANT: a frame goes only from one peer of ours to another.
    pub fn judge<'d>(
        &mut self,
        frame: Frame<'d>,
        source: Place,
        is_peer: impl Fn(Place) -> bool,
        now: Instant,
    ) -> Option<Act<'d>> {
        let act = match frame {
            Frame::From(place, datagram) if place != source && is_peer(place) => {
                Some(Act::Take(place, datagram))
            }
            Frame::To(place, datagram) if self.allowed && place != source && is_peer(place) => {
                let rest = now.saturating_duration_since(self.filled).as_micros().min(1_000_000) as u64;
                let earned = rest * RATE / 1_000_000;
                if earned > 0 {
                    self.filled = now;
                    self.tokens = (self.tokens + earned).min(BURST);
                }
                (self.tokens > 0).then(|| {
                    self.tokens -= 1;
                    self.carried += 1;
                    Act::Carry(place, datagram)
                })
            }
            _ => None,
        };
        self.dropped += u64::from(act.is_none());
        act
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::sixpn::RegionCode;

    fn place(pop: u8) -> Place {
        Place { region: RegionCode::new(1).unwrap(), pop }
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        for frame in [Frame::To(place(7), b"x"), Frame::From(place(255), b"yz")] {
            let (Frame::To(_, datagram) | Frame::From(_, datagram)) = frame;
            let octets = [&frame.head()[..], datagram].concat();
            assert_eq!(read(&octets), Some(frame));
        }
        for garbage in
            [&b""[..], b"\x01\x00\x01", b"\x01\x00\x01\x01", b"\x03\x00\x01\x01x", b"\x01\x00\xff\x01x"]
        {
            assert_eq!(read(garbage), None);
        }
    }

    #[test]
    fn only_from_peer_to_peer_and_only_once() {
        let now = Instant::now();
        let mut carrier = Carrier::new(true, now);
        let is_peer = |place: Place| place.pop < 10;
        let mut judge = |frame, source| carrier.judge(frame, source, is_peer, now);
        assert_eq!(judge(Frame::To(place(2), b"x"), place(1)), Some(Act::Carry(place(2), b"x")));
        assert_eq!(judge(Frame::To(place(1), b"x"), place(1)), None, "to itself");
        assert_eq!(judge(Frame::To(place(99), b"x"), place(1)), None, "to a stranger");
        assert_eq!(judge(Frame::From(place(2), b"x"), place(1)), Some(Act::Take(place(2), b"x")));
        assert_eq!(judge(Frame::From(place(1), b"x"), place(1)), None, "from itself");
        assert_eq!(judge(Frame::From(place(99), b"x"), place(1)), None, "from a stranger");
        carrier.set_allowed(false);
        assert_eq!(carrier.judge(Frame::To(place(2), b"x"), place(1), is_peer, now), None);
    }

    #[test]
    fn what_is_carried_is_bounded() {
        let start = Instant::now();
        let mut carrier = Carrier::new(true, start);
        let mut carried = 0;
        for n in 0..200_000u64 {
            let now = start + Duration::from_micros(n * 5);
            carried += u64::from(carrier.judge(Frame::To(place(2), b"x"), place(1), |_| true, now).is_some());
        }
        assert!((50_000..=61_000).contains(&carried), "{carried}");
    }
}
