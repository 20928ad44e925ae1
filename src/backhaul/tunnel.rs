//! The sessions of one peer: packets are sealed for it and opened from it, in buffers of the caller.
//!
//! boringtun asks for the time itself (CLOCK_BOOTTIME) where it times sessions, and the operating system for
//! randomness. What is decided here is decided by the `now` of [`Tunnel::tick`].

mod counters;
mod door;
mod index;
mod inside;
mod key;
mod pace;
mod session;
#[cfg(test)]
mod tests;
mod waiting;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use counters::{Counters, Drops, Reason};
pub use door::{Door, Sorted};
pub use index::{Index, Indexes};
pub use key::{Pair, PrivateKey, PublicKey};
use session::{Came, Session};
use waiting::Waiting;

/// What a sealed packet is longer than the padded one: header 16, tag 16.
pub const OVERHEAD: usize = 32;
/// The longest handshake message. Every output buffer holds this much.
pub const HANDSHAKE: usize = 148;
/// The longest packet.
pub const MOST: usize = 65_535;
/// Counters from here on are refused (whitepaper §6.1, REJECT_AFTER_MESSAGES).
const LAST_COUNTER: u64 = u64::MAX - (1 << 13);
/// A pair of keys that was silent for so long while another was heard is not sent with.
const SILENT: Duration = Duration::from_secs(15);

/// What a tunnel is made from.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    pub ours: Pair<PrivateKey>,
    pub theirs: Pair<PublicKey>,
    pub preshared: Option<[u8; 32]>,
    /// Seconds between packets that keep the path open.
    pub keepalive: Option<u16>,
    pub index: Index,
    /// Packets are not padded beyond this.
    pub mtu: usize,
}

/// One peer.
pub struct Tunnel {
    config: TunnelConfig,
    /// By age: retired ones first, the newest pair of keys last. At most four.
    sessions: Vec<Session>,
    /// The one that packets are sealed with.
    sending: Option<usize>,
    waiting: Waiting,
    endpoint: Option<SocketAddr>,
    now: Instant,
    /// Room for the padding of packets that have none behind them.
    padded: Vec<u8>,
    counters: Counters,
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Sealed<'b> {
    Data(&'b [u8]),
    /// The packet waits, and this is to be sent first.
    Handshake(&'b [u8]),
    /// The packet waits for a handshake that is under way.
    Queued,
    Dropped(Reason),
}

/// What became of a datagram. Afterwards, while [`Tunnel::is_waiting`], open the empty datagram for more replies.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'b> {
    Packet(&'b [u8]),
    /// To be sent to where the datagram came from.
    Reply(&'b [u8]),
    Nothing,
    Refused(Reason),
}

/// What a datagram says it is, with its receiver index, and the counter of data.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Initiation,
    Response(u32),
    Cookie(u32),
    Data(u32, u64),
}

impl Kind {
    fn of(datagram: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*datagram.get(at..)?.first_chunk()?));
        match (word(0)?, datagram.len()) {
            (1, HANDSHAKE) => Some(Self::Initiation),
            (2, 92) => Some(Self::Response(word(8)?)),
            (3, 64) => Some(Self::Cookie(word(4)?)),
            (4, OVERHEAD..) => Some(Self::Data(word(4)?, u64::from(word(8)?) | u64::from(word(12)?) << 32)),
            _ => None,
        }
    }
}

impl Tunnel {
    #[must_use]
    pub fn new(config: TunnelConfig, now: Instant) -> Self {
        let mut tunnel = Self {
            sessions: Vec::new(),
            sending: None,
            waiting: Waiting::default(),
            endpoint: None,
            now,
            padded: Vec::new(),
            counters: Counters::default(),
            config,
        };
        tunnel.pair_up(now);
        tunnel
    }

    /// Other keys of either end. Sessions of pairs that stay are kept; the others open for ten more seconds.
    pub fn set_keys(&mut self, ours: Pair<PrivateKey>, theirs: Pair<PublicKey>, now: Instant) {
        (self.config.ours, self.config.theirs) = (ours, theirs);
        self.pair_up(now);
    }

    /// A packet for the peer. `out` holds its length, padded to 16, and 32 octets more, and 148 at least.
    pub fn seal<'b>(&mut self, packet: &[u8], out: &'b mut [u8]) -> Sealed<'b> {
        if packet.len() > MOST || out.len() < (packet.len().next_multiple_of(16) + OVERHEAD).max(HANDSHAKE) {
            return Sealed::Dropped(self.drop(Reason::Oversize));
        }
        if packet.is_empty() {
            return Sealed::Dropped(self.drop(Reason::BadPacket));
        }
        if self.sending.is_some() {
            return match self.seal_now(packet, out) {
                Some(length) => Sealed::Data(&out[..length]),
                None => Sealed::Dropped(self.drop(Reason::Unexpected)),
            };
        }
        for _ in 0..self.waiting.push(packet) {
            self.drop(Reason::QueueFull);
        }
        let now = self.now;
        let begun = self.sessions.last_mut().and_then(|newest| newest.initiate(now, out, &mut self.counters));
        begun.map_or(Sealed::Queued, |length| Sealed::Handshake(&out[..length]))
    }

    /// A datagram that [`Door::sort`] gave to this peer. `out` is as long as the datagram and 148 octets at least.
    /// `allowed` says whether a source address inside is this peer's.
    pub fn open<'b>(
        &mut self,
        datagram: &[u8],
        from: Option<SocketAddr>,
        out: &'b mut [u8],
        allowed: impl Fn(IpAddr) -> bool,
    ) -> Opened<'b> {
        if datagram.is_empty() {
            return self.send_waiting(out).map_or(Opened::Nothing, |length| Opened::Reply(&out[..length]));
        }
        let came = match self.receive(datagram, out) {
            Ok(came) => came,
            Err(reason) => return Opened::Refused(self.drop(reason)),
        };
        match came {
            Came::Packet(length) => match inside::check(&out[..length], allowed) {
                Ok(packet) => {
                    self.endpoint = from.or(self.endpoint);
                    self.counters.rx_packets += 1;
                    self.counters.rx_octets += packet.len() as u64;
                    Opened::Packet(packet)
                }
                Err(reason) => Opened::Refused(self.drop(reason)),
            },
            Came::Keepalive => {
                self.endpoint = from.or(self.endpoint);
                Opened::Nothing
            }
            Came::Made(length) => {
                self.endpoint = from.or(self.endpoint);
                Opened::Reply(&out[..length])
            }
            // A captured initiation can be sent from anywhere: the endpoint moves with what follows it.
            Came::Begun(length) => Opened::Reply(&out[..length]),
            Came::Cookie => Opened::Nothing,
        }
    }

    /// Time has passed: to be called at least every 250 ms, again with the same `now` until it gives None.
    /// `out` is as long as for [`Tunnel::seal`] of the longest packet that waits.
    pub fn tick<'b>(&mut self, now: Instant, out: &'b mut [u8]) -> Option<&'b [u8]> {
        if out.len() < HANDSHAKE {
            return None;
        }
        self.now = self.now.max(now);
        let now = self.now;
        self.sessions.retain(|session| session.until.is_none_or(|until| now < until));
        let counters = &mut self.counters;
        let timed = self.sessions.iter_mut().find_map(|session| session.tick(now, out, counters));
        self.choose();
        let length = timed.or_else(|| self.send_waiting(out))?;
        Some(&out[..length])
    }

    /// Packets wait, and a session is there.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.sending.is_some() && !self.waiting.is_empty()
    }

    /// Whether there is a session to send on.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.sending.is_some()
    }

    /// The pair of public keys, ours and theirs, that packets are sealed for.
    #[must_use]
    pub fn sending_keys(&self) -> Option<(PublicKey, PublicKey)> {
        let session = self.sessions.get(self.sending?)?;
        Some((session.ours, session.theirs))
    }

    /// Whether anything authentic came at or after `then`, to the tick.
    #[must_use]
    pub fn is_authenticated_since(&self, then: Instant) -> bool {
        self.sessions.iter().any(|session| session.heard.is_some_and(|heard| heard >= then))
    }

    /// Where datagrams go until authentic ones come from elsewhere.
    pub fn set_endpoint(&mut self, endpoint: Option<SocketAddr>) {
        self.endpoint = endpoint;
    }

    /// The way to the peer is another, or it is silent: a handshake is tried soon.
    pub fn hurry(&mut self) {
        let now = self.now;
        self.sessions.iter_mut().for_each(|session| session.hurry(now));
    }

    /// Packets are not padded beyond this from now on.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.config.mtu = mtu;
    }

    /// Where the last authentic data, keepalive or response came from, or what was set since.
    #[must_use]
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn drop(&mut self, reason: Reason) -> Reason {
        self.counters.drops.count(reason);
        reason
    }

    fn seal_now(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let length = inside::padded(packet.len(), self.config.mtu);
        let session = self.sessions.get_mut(self.sending?)?;
        // Whitepaper §5.4.6: zeros up to a multiple of 16. boringtun seals what it is given.
        let sealed = if length == packet.len() {
            session.seal(packet, out)?
        } else {
            self.padded.clear();
            self.padded.extend_from_slice(packet);
            self.padded.resize(length, 0);
            session.seal(&self.padded, out)?
        };
        self.counters.tx_packets += 1;
        self.counters.tx_octets += packet.len() as u64;
        Some(sealed)
    }

    fn send_waiting(&mut self, out: &mut [u8]) -> Option<usize> {
        self.sending?;
        let packet = self.waiting.pop()?;
        if out.len() < packet.len().next_multiple_of(16) + OVERHEAD {
            self.drop(Reason::Oversize);
            return None;
        }
        self.seal_now(&packet, out)
    }

    fn receive(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<Came, Reason> {
        let kind = Kind::of(datagram).ok_or(Reason::Malformed)?;
        if out.len() < datagram.len().max(HANDSHAKE) {
            return Err(Reason::Oversize);
        }
        let (now, counters) = (self.now, &mut self.counters);
        let came = match kind {
            Kind::Data(_, LAST_COUNTER..) => Err(Reason::Replayed),
            Kind::Data(receiver, _) | Kind::Response(receiver) | Kind::Cookie(receiver) => {
                let slot = Index::slot_of(receiver);
                let session = self.sessions.iter_mut().find(|session| session.slot == slot);
                session.ok_or(Reason::UnknownIndex)?.open(datagram, kind, out, now, counters)
            }
            Kind::Initiation => {
                let mut came = Err(Reason::UnknownPeer);
                for session in self.sessions.iter_mut().filter(|session| session.until.is_none()) {
                    came = session.open(datagram, kind, out, now, counters);
                    // Of another pair of keys: the next is tried.
                    if !matches!(came, Err(Reason::BadMac | Reason::UnknownPeer)) {
                        break;
                    }
                }
                came
            }
        };
        self.choose();
        came
    }

    /// INVARIANT: packets go over the newest pair of keys that the peer has proven to have.
    fn choose(&mut self) {
        let alive = || self.sessions.iter().enumerate().rev().filter(|(_, session)| session.alive);
        let last = alive().filter_map(|(_, session)| session.heard).max();
        let fresh = |heard: Option<Instant>| {
            heard.zip(last).is_some_and(|(heard, last)| last.saturating_duration_since(heard) <= SILENT)
        };
        // A peer that came back without its next key is heard with the present one only.
        self.sending = alive().find(|(_, session)| fresh(session.heard)).map(|(at, _)| at);
    }

    /// One session for the oldest pair of keys and one for the newest, so that either end can be the first to move.
    fn pair_up(&mut self, now: Instant) {
        let TunnelConfig { ours, theirs, preshared, keepalive, index, .. } = self.config.clone();
        let mut wanted = vec![(&ours.present, theirs.present), (ours.newest(), *theirs.newest())];
        wanted.dedup_by_key(|(ours, theirs)| (ours.public(), *theirs));
        let mut old = std::mem::take(&mut self.sessions);
        let mut kept = Vec::new();
        for (ours, theirs) in wanted {
            let public = ours.public();
            let same = |session: &Session| session.ours == public && session.theirs == theirs;
            match old.iter().position(same) {
                Some(at) => {
                    let mut session = old.remove(at);
                    session.until = None;
                    kept.push(session);
                }
                None => {
                    let taken = |slot: &u32| old.iter().chain(&kept).any(|session| session.slot == *slot);
                    let slot =
                        (0..index::SLOTS).find(|slot| !taken(slot)).unwrap_or_else(|| old.remove(0).slot);
                    kept.push(Session::new(ours, theirs, preshared, keepalive, index, slot));
                }
            }
        }
        old.iter_mut().for_each(|session| session.retire(now));
        // Two beside the two wanted ones have slots.
        let most = index::SLOTS as usize - kept.len();
        old.drain(..old.len().saturating_sub(most));
        old.append(&mut kept);
        self.sessions = old;
        self.choose();
    }
}
