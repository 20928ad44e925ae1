//! The sessions of one pair of keys: boringtun's state, and when it must be pushed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;

use super::counters::Counters;
use super::index::Index;
use super::pace::Pace;
use super::{Kind, PrivateKey, PublicKey, Reason};

/// What came of a datagram.
pub(super) enum Came {
    /// So many octets of a packet are in the buffer.
    Packet(usize),
    Keepalive,
    Cookie,
    /// An answer of so many octets is in the buffer; the message was a response, so that the peer is proven.
    Made(usize),
    /// An answer of so many octets is in the buffer; the peer has yet to prove that it is there.
    Begun(usize),
}

pub(super) struct Session {
    pub(super) ours: PublicKey,
    pub(super) theirs: PublicKey,
    pub(super) slot: u32,
    tunn: Tunn,
    pace: Pace,
    /// There is a session that the peer has proven to have, too. boringtun forgets sessions in its timers only.
    pub(super) alive: bool,
    /// Our index of a session that we answered for and that nothing has come through yet.
    unproven: Option<u32>,
    /// When the peer was last heard, to the tick.
    pub(super) heard: Option<Instant>,
    /// These keys are no longer wanted: what is under way is still opened until then.
    pub(super) until: Option<Instant>,
    ticked: Option<Instant>,
    cookie_used: bool,
}

impl Session {
    pub(super) fn new(
        ours: &PrivateKey,
        theirs: PublicKey,
        preshared: Option<[u8; 32]>,
        keepalive: Option<u16>,
        index: Index,
        slot: u32,
    ) -> Self {
        let public = ours.public();
        // Load is judged at the door, for all peers at once; this one only looks at MAC1.
        let unlimited = RateLimiter::new(&x25519::PublicKey::from(public.0), u64::MAX);
        let number = index.with_slot(slot);
        let tunn = Tunn::new(
            ours.0.clone(),
            x25519::PublicKey::from(theirs.0),
            preshared,
            keepalive,
            number,
            Some(Arc::new(unlimited)),
        );
        let pace =
            Pace::new(number ^ u32::from_le_bytes([public.0[0], public.0[1], public.0[2], public.0[3]]));
        Self {
            ours: public,
            theirs,
            slot,
            tunn,
            pace,
            alive: false,
            unproven: None,
            heard: None,
            until: None,
            ticked: None,
            cookie_used: false,
        }
    }

    /// Seals into `out`, which is long enough. The session is alive.
    pub(super) fn seal(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.tunn.encapsulate(packet, out) {
            TunnResult::WriteToNetwork(datagram) => Some(datagram.len()),
            _ => None,
        }
    }

    /// Opens into `out`, which is at least as long as the datagram and 148 octets.
    pub(super) fn open(
        &mut self,
        datagram: &[u8],
        kind: Kind,
        out: &mut [u8],
        now: Instant,
        counters: &mut Counters,
    ) -> Result<Came, Reason> {
        let came = match self.tunn.decapsulate(None, datagram, out) {
            TunnResult::WriteToTunnelV4(packet, _) => Came::Packet(packet.len()),
            TunnResult::WriteToTunnelV6(packet, _) => Came::Packet(packet.len()),
            TunnResult::WriteToNetwork(reply) if matches!(kind, Kind::Response(_)) => Came::Made(reply.len()),
            TunnResult::WriteToNetwork(reply) => {
                // Our index is the sender's in the answer.
                self.unproven =
                    reply.get(4..8).and_then(|index| Some(u32::from_le_bytes(*index.first_chunk()?)));
                Came::Begun(reply.len())
            }
            TunnResult::Done if matches!(kind, Kind::Cookie(_)) => Came::Cookie,
            TunnResult::Done => Came::Keepalive,
            TunnResult::Err(error) => {
                let reason = reason(&error);
                if reason == Reason::BadPacket && matches!(kind, Kind::Data(..)) {
                    self.heard(kind, now, counters);
                }
                return Err(reason);
            }
        };
        match came {
            Came::Packet(_) | Came::Keepalive => self.heard(kind, now, counters),
            Came::Made(_) => self.made(now, true, counters),
            Came::Cookie => {
                counters.cookies += 1;
                if !std::mem::replace(&mut self.cookie_used, true) {
                    self.pace.soon(now);
                }
            }
            Came::Begun(_) => {}
        }
        Ok(came)
    }

    /// Something authentic came through a session: the peer has it.
    fn heard(&mut self, kind: Kind, now: Instant, counters: &mut Counters) {
        self.heard = Some(now);
        self.alive = true;
        if let (Kind::Data(receiver, _), Some(unproven)) = (kind, self.unproven)
            && receiver == unproven
        {
            self.unproven = None;
            self.made(now, false, counters);
        }
    }

    fn made(&mut self, now: Instant, ours: bool, counters: &mut Counters) {
        self.heard = Some(now);
        self.alive = true;
        self.pace.made(now, ours);
        counters.handshakes_made += 1;
        counters.last_handshake = Some(now);
    }

    /// boringtun's timers, once for each `now`, and then ours. Some: so many octets to send.
    pub(super) fn tick(&mut self, now: Instant, out: &mut [u8], counters: &mut Counters) -> Option<usize> {
        if self.ticked != Some(now) {
            self.ticked = Some(now);
            let sent = match self.tunn.update_timers(out) {
                TunnResult::WriteToNetwork(datagram) => Some((datagram.len(), datagram[0])),
                // `ConnectionExpired`: boringtun has given up after 90 seconds. We have not: see `initiate`.
                _ => None,
            };
            self.alive = self.alive && self.tunn.time_since_last_handshake().is_some();
            if let Some((length, first)) = sent {
                if first == 1 {
                    self.note_attempt(now, counters);
                }
                return Some(length);
            }
        }
        if self.until.is_none() { self.initiate(now, out, counters) } else { None }
    }

    /// Begins a handshake if one is due. An expired state begins anew by this, without losing the peer's timestamp.
    pub(super) fn initiate(
        &mut self,
        now: Instant,
        out: &mut [u8],
        counters: &mut Counters,
    ) -> Option<usize> {
        if !self.pace.is_due(now, self.alive) {
            return None;
        }
        self.note_attempt(now, counters);
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(datagram) => Some(datagram.len()),
            _ => None,
        }
    }

    fn note_attempt(&mut self, now: Instant, counters: &mut Counters) {
        counters.handshakes_failed += u64::from(self.pace.open);
        counters.handshakes_begun += 1;
        self.cookie_used = false;
        self.pace.tried(now);
    }

    /// The peer may have lost its session: another handshake soon, whatever the age of this one.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.pace.again(now);
    }

    /// Keys that are no longer wanted are still opened with for ten seconds.
    pub(super) fn retire(&mut self, now: Instant) {
        self.until.get_or_insert(now + Duration::from_secs(10));
    }
}

fn reason(error: &WireGuardError) -> Reason {
    match error {
        WireGuardError::InvalidMac => Reason::BadMac,
        WireGuardError::WrongKey => Reason::UnknownPeer,
        WireGuardError::InvalidAeadTag => Reason::NotAuthentic,
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp
        | WireGuardError::InvalidTai64nTimestamp => Reason::Replayed,
        WireGuardError::WrongIndex | WireGuardError::NoCurrentSession => Reason::UnknownIndex,
        WireGuardError::InvalidPacket => Reason::BadPacket,
        WireGuardError::DestinationBufferTooSmall => Reason::Oversize,
        _ => Reason::Unexpected,
    }
}
