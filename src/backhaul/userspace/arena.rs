//! Opened packets on their way in, one behind the other.

use std::ops::Range;

/// Octets from which on packets are written to the interface.
const ENOUGH: usize = 192 * 1024;
const MOST: usize = ENOUGH + 80 * 1024;

#[derive(Debug)]
pub struct Arena {
    octets: Vec<u8>,
    filled: usize,
    packets: Vec<Range<usize>>,
}

impl Default for Arena {
    fn default() -> Self {
        Self { octets: vec![0; MOST], filled: 0, packets: Vec::new() }
    }
}

impl Arena {
    /// Room for the longest packet at least, unless [`Arena::is_full`].
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.octets[self.filled..]
    }

    /// The first octets of the room are a packet.
    pub fn keep(&mut self, length: usize) {
        self.packets.push(self.filled..self.filled + length);
        // The next begins on a boundary of words.
        self.filled += length.next_multiple_of(16);
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.filled >= ENOUGH || self.packets.len() >= 512
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The octets, and where the packets are in them.
    pub fn parts(&mut self) -> (&mut [u8], &[Range<usize>]) {
        (&mut self.octets, &self.packets)
    }

    pub fn clear(&mut self) {
        self.packets.clear();
        self.filled = 0;
    }
}
