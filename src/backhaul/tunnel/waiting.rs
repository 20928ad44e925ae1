//! Packets that wait for a session: few, and the oldest goes first when there are too many.

use std::collections::VecDeque;

/// Packets that wait at most.
pub const MOST_PACKETS: usize = 256;
/// Octets that wait at most.
pub const MOST_OCTETS: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    packets: VecDeque<Vec<u8>>,
    octets: usize,
}

impl Waiting {
    /// Keeps a packet. Returns how many older ones were dropped for it: the newest is the likeliest to be of use
    /// still when the session comes.
    pub(super) fn push(&mut self, packet: &[u8]) -> u64 {
        let mut dropped = 0;
        while self.packets.len() >= MOST_PACKETS || self.octets + packet.len() > MOST_OCTETS {
            if self.pop().is_none() {
                break;
            }
            dropped += 1;
        }
        self.octets += packet.len();
        self.packets.push_back(packet.to_vec());
        dropped
    }

    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let packet = self.packets.pop_front()?;
        self.octets -= packet.len();
        Some(packet)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded() {
        let mut waiting = Waiting::default();
        let dropped: u64 = (0..1000).map(|_| waiting.push(&[0; 100])).sum();
        assert_eq!((waiting.packets.len() as u64, dropped), (256, 744));
        let dropped: u64 = (0..100).map(|_| waiting.push(&[0; 65_000])).sum();
        assert!(waiting.octets <= MOST_OCTETS && dropped > 256, "{} {dropped}", waiting.octets);
        while waiting.pop().is_some() {}
        assert_eq!((waiting.octets, waiting.is_empty()), (0, true));
    }
}
