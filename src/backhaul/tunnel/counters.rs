//! What a tunnel has done, and why it has dropped what it dropped.

use std::time::Instant;

/// Why a packet or a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No WireGuard message: type, reserved octets or length.
    Malformed,
    /// Longer than any packet, or the caller's buffer is too short for it.
    Oversize,
    /// No session has this receiver index.
    UnknownIndex,
    /// The initiator's key is none of our peers', or it was meant for another key of ours.
    UnknownPeer,
    /// MAC1 is wrong: the sender does not know our public key.
    BadMac,
    /// Its source begins too many handshakes.
    RateLimited,
    /// It was not sealed by this peer.
    NotAuthentic,
    /// Seen before, or older than the window.
    Replayed,
    /// A message that nothing waits for.
    Unexpected,
    /// Inside is no IPv4 or IPv6 packet, or one that is longer than what came.
    BadPacket,
    /// The source address inside is not this peer's.
    ForeignSource,
    /// Too much waits for a session.
    QueueFull,
}

impl Reason {
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Oversize,
        Self::UnknownIndex,
        Self::UnknownPeer,
        Self::BadMac,
        Self::RateLimited,
        Self::NotAuthentic,
        Self::Replayed,
        Self::Unexpected,
        Self::BadPacket,
        Self::ForeignSource,
        Self::QueueFull,
    ];

    /// The label of metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversize => "oversize",
            Self::UnknownIndex => "unknown_index",
            Self::UnknownPeer => "unknown_peer",
            Self::BadMac => "bad_mac",
            Self::RateLimited => "rate_limited",
            Self::NotAuthentic => "not_authentic",
            Self::Replayed => "replayed",
            Self::Unexpected => "unexpected",
            Self::BadPacket => "bad_packet",
            Self::ForeignSource => "foreign_source",
            Self::QueueFull => "queue_full",
        }
    }
}

/// Drops by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    pub fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
    }

    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Counters of one tunnel. Octets are those of packets inside, without padding.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub rx_packets: u64,
    pub rx_octets: u64,
    pub tx_packets: u64,
    pub tx_octets: u64,
    pub drops: Drops,
    /// Initiations sent.
    pub handshakes_begun: u64,
    pub handshakes_made: u64,
    /// Initiations that found no answer before the next.
    pub handshakes_failed: u64,
    /// Cookies that the peer asked us to show.
    pub cookies: u64,
    /// When the last handshake was made, to the tick.
    pub last_handshake: Option<Instant>,
}
