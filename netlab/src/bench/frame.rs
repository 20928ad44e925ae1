//! What a load and its backend say to each other: requests of 100 octets, and a pattern for bulk.

use std::sync::OnceLock;

/// The length of a request and of its answer, which is the request itself.
pub const FRAME: usize = 100;
/// The pattern's length; bulk repeats it.
pub const PATTERN: usize = 256 << 10;

/// What a request asks for: its first octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The frame back; more may follow.
    Keep,
    /// The frame back, then the end.
    Close,
    /// The pattern without end.
    Download,
    /// Takes the pattern without end.
    Upload,
}

impl Ask {
    const ALL: [(u8, Ask); 4] =
        [(b'K', Ask::Keep), (b'C', Ask::Close), (b'D', Ask::Download), (b'U', Ask::Upload)];

    /// What a frame's first octet asks for.
    #[must_use]
    pub fn of(octet: u8) -> Option<Ask> {
        Self::ALL.iter().find(|(letter, _)| *letter == octet).map(|(_, ask)| *ask)
    }

    /// The frame that asks for it. `number` tells answers apart.
    #[must_use]
    pub fn frame(self, number: u64) -> [u8; FRAME] {
        let mut frame = [b'.'; FRAME];
        frame[0] = Self::ALL.iter().find(|(_, ask)| *ask == self).map_or(b'?', |(letter, _)| *letter);
        frame[1..9].copy_from_slice(&number.to_be_bytes());
        frame
    }
}

/// Octets without a short period, so that what is lost, doubled or moved shows.
#[must_use]
pub fn pattern() -> &'static [u8] {
    static PATTERN_OCTETS: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN_OCTETS.get_or_init(|| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..PATTERN).map(next).collect()
    })
}

/// The beginning of a bulk transfer, compared with the pattern as far as that goes once.
#[derive(Debug, Default)]
pub struct Check {
    seen: usize,
}

impl Check {
    /// Whether there is nothing more to compare.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.seen >= PATTERN
    }

    /// Compares what comes next; false when it is not what was sent.
    pub fn takes(&mut self, octets: &[u8]) -> bool {
        let expected = &pattern()[self.seen.min(PATTERN)..];
        let common = expected.len().min(octets.len());
        self.seen += octets.len();
        octets[..common] == expected[..common]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_what_it_asks_for() {
        for ask in [Ask::Keep, Ask::Close, Ask::Download, Ask::Upload] {
            assert_eq!(Ask::of(ask.frame(7)[0]), Some(ask));
        }
        assert_eq!(Ask::of(b'.'), None);
        assert_ne!(Ask::Keep.frame(1), Ask::Keep.frame(2));
    }

    #[test]
    fn what_is_lost_doubled_or_changed_shows() {
        let whole = pattern();
        let mut check = Check::default();
        assert!(check.takes(&whole[..1000]) && !check.is_over() && check.takes(&whole[1000..]));
        assert!(check.is_over() && check.takes(b"whatever comes later"));
        for wrong in [&whole[1..2000], &whole[..0x100].repeat(2)] {
            assert!(!Check::default().takes(wrong));
        }
    }
}
