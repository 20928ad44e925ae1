//! Which peer a receiver index belongs to: 22 bits name the peer, 2 the pair of keys, 8 the session.

use std::collections::HashMap;

const PEER_BITS: u32 = 22;
/// Pairs of keys of one peer that can have sessions at the same time.
pub(super) const SLOTS: u32 = 4;

/// The tunnel's part of receiver indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Index(u32);

impl Index {
    /// What boringtun is given: it puts eight bits of its own behind.
    pub(super) fn with_slot(self, slot: u32) -> u32 {
        self.0 * SLOTS + slot
    }

    pub(super) fn slot_of(receiver: u32) -> u32 {
        (receiver >> 8) % SLOTS
    }
}

/// Peers by index.
#[derive(Debug)]
pub struct Indexes<T> {
    peers: HashMap<u32, T>,
}

impl<T: Copy> Default for Indexes<T> {
    fn default() -> Self {
        Self { peers: HashMap::new() }
    }
}

impl<T: Copy> Indexes<T> {
    /// A free index for a peer, near `random`: who cannot see our datagrams should not guess it. None: all four
    /// million are taken.
    pub fn add(&mut self, random: u32, peer: T) -> Option<Index> {
        let most = 1 << PEER_BITS;
        let free =
            (0..most).map(|step| random.wrapping_add(step) % most).find(|n| !self.peers.contains_key(n))?;
        self.peers.insert(free, peer);
        Some(Index(free))
    }

    pub fn remove(&mut self, index: Index) {
        self.peers.remove(&index.0);
    }

    /// The peer that a receiver index of a datagram belongs to, in O(1).
    #[must_use]
    pub fn find(&self, receiver: u32) -> Option<T> {
        self.peers.get(&(receiver >> (32 - PEER_BITS))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_of_a_peer_is_found_and_nobody_elses() {
        let mut indexes = Indexes::default();
        let added: Vec<Index> = (0..300u32).map(|peer| indexes.add(u32::MAX - 5, peer).unwrap()).collect();
        for (peer, index) in added.iter().enumerate() {
            for slot in 0..SLOTS {
                for session in [0, 1, 255] {
                    let receiver = (index.with_slot(slot) << 8) | session;
                    assert_eq!(indexes.find(receiver), Some(peer as u32));
                    assert_eq!(Index::slot_of(receiver), slot);
                }
            }
        }
        indexes.remove(added[7]);
        assert_eq!(indexes.find(added[7].with_slot(0) << 8), None);
        assert_eq!(indexes.find(0x7fff_ffff), None);
    }
}
