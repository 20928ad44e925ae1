//! Sealed datagrams on their way out, gathered into trains that leave in one system call each (UDP GSO).

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Octets of a train: the longest UDP datagram over IPv4 (RFC 768).
const MOST_OCTETS: usize = 65_507;
/// Octets of all trains from which on they are sent.
const ENOUGH: usize = 256 * 1024;
/// Octets of all trains that are kept while the socket takes none; further datagrams are lost.
const TOO_MUCH: usize = 1024 * 1024;

/// Datagrams for one address that follow each other: all as long as the first but the last, which may be shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Train {
    pub way: Way,
    pub octets: Range<usize>,
    /// Octets of each datagram.
    pub size: usize,
    /// Another datagram may follow.
    open: bool,
}

/// What all datagrams of a train share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    pub to: SocketAddr,
    /// The address of ours that the peer knows.
    pub from: Option<IpAddr>,
    /// The two bits of ECN (RFC 6040 §4.1: those of the packet inside).
    pub ecn: u8,
}

impl Way {
    #[must_use]
    pub fn new(to: SocketAddr, from: Option<IpAddr>) -> Self {
        Self { to, from, ecn: 0 }
    }
}

/// What waits to be sent, in order.
#[derive(Debug)]
pub struct Trains {
    octets: Vec<u8>,
    filled: usize,
    list: Vec<Train>,
    most_datagrams: usize,
}

impl Trains {
    /// Trains of at most so many datagrams.
    #[must_use]
    pub fn new(most_datagrams: usize) -> Self {
        Self { octets: vec![0; ENOUGH], filled: 0, list: Vec::new(), most_datagrams: most_datagrams.max(1) }
    }

    pub fn set_most(&mut self, most_datagrams: usize) {
        self.most_datagrams = most_datagrams.max(1);
    }

    /// Room for so many octets, to be filled and then given to [`Trains::push`].
    pub fn room(&mut self, octets: usize) -> &mut [u8] {
        let end = self.filled + octets;
        if self.octets.len() < end {
            self.octets.resize(end.next_multiple_of(64 * 1024), 0);
        }
        &mut self.octets[self.filled..]
    }

    /// The first octets of the room are a datagram.
    pub fn push(&mut self, length: usize, way: Way) {
        if self.filled + length > TOO_MUCH {
            // The socket takes none for too long.
            return;
        }
        let start = self.filled;
        self.filled += length;
        if let Some(last) = self.list.last_mut() {
            let fits = last.open && last.way == way && length <= last.size && !last.octets.is_empty();
            if fits && last.octets.len() + length <= MOST_OCTETS && last.datagrams() < self.most_datagrams {
                last.octets.end = self.filled;
                last.open = length == last.size;
                return;
            }
        }
        self.list.push(Train { way, octets: start..self.filled, size: length, open: true });
    }

    /// A datagram that lies elsewhere.
    pub fn push_copy(&mut self, datagram: &[u8], way: Way) {
        self.room(datagram.len())[..datagram.len()].copy_from_slice(datagram);
        self.push(datagram.len(), way);
    }

    /// Enough to be sent.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.filled >= ENOUGH
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[must_use]
    pub fn list(&self) -> &[Train] {
        &self.list
    }

    #[must_use]
    pub fn octets(&self, range: Range<usize>) -> &[u8] {
        &self.octets[range]
    }

    /// The first so many trains have left.
    pub fn sent(&mut self, trains: usize) {
        self.list.drain(..trains);
        if self.list.is_empty() {
            self.filled = 0;
        }
    }
}

impl Train {
    #[must_use]
    pub fn datagrams(&self) -> usize {
        self.octets.len().div_ceil(self.size.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(port: u16) -> Way {
        Way::new(SocketAddr::from(([192, 0, 2, 1], port)), None)
    }

    fn gathered(most: usize, pushed: &[(usize, u16)]) -> Vec<(usize, usize, usize)> {
        let mut trains = Trains::new(most);
        for (length, port) in pushed {
            trains.push_copy(&vec![7; *length], way(*port));
        }
        trains.list().iter().map(|train| (train.datagrams(), train.size, train.octets.len())).collect()
    }

    #[test]
    fn what_goes_together() {
        assert_eq!(gathered(64, &[(100, 1), (100, 1), (60, 1), (100, 1)]), [(3, 100, 260), (1, 100, 100)]);
        assert_eq!(gathered(64, &[(60, 1), (100, 1)]), [(1, 60, 60), (1, 100, 100)], "a longer one");
        assert_eq!(gathered(64, &[(100, 1), (100, 2), (100, 1)]).len(), 3, "other addresses");
        assert_eq!(gathered(2, &[(100, 1); 5]), [(2, 100, 200), (2, 100, 200), (1, 100, 100)]);
        assert_eq!(gathered(1, &[(100, 1); 3]).len(), 3);
        assert_eq!(gathered(1000, &[(1452, 1); 50])[0], (45, 1452, 65_340), "no longer than UDP");
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_stays() {
        let mut trains = Trains::new(64);
        for _ in 0..1000 {
            trains.push_copy(&[1; 1452], way(1));
        }
        let datagrams: usize = trains.list().iter().map(Train::datagrams).sum();
        assert!(trains.is_full() && datagrams < 800, "{datagrams}");
        let all = trains.list().len();
        trains.sent(all - 1);
        assert_eq!(trains.list().len(), 1);
        trains.sent(1);
        assert!(trains.is_empty() && !trains.is_full());
    }
}
