//! The Internet checksum (RFC 1071) over octets and pseudo-headers.

/// A sum of 16-bit words in ones' complement, not folded to the end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds octets. All pieces but the last have an even number of them.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "it adds octets, not another sum")]
    pub fn add(self, octets: &[u8]) -> Self {
        // Eight independent lanes of 32 bits: the compiler makes vectors of them.
        let mut lanes = [0u64; 8];
        let mut chunks = octets.chunks_exact(32);
        for chunk in &mut chunks {
            for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        let mut sum: u64 = lanes.iter().sum();
        let mut words = chunks.remainder().chunks_exact(2);
        for word in &mut words {
            sum += u64::from(u16::from_ne_bytes([word[0], word[1]]));
        }
        if let [last] = words.remainder() {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        // The order of octets does not matter to the sum but for where it stands at the end (RFC 1071 §2 B).
        self.word(u16::from_be(fold(sum)))
    }

    /// Adds a word.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Adds the pseudo-header of IPv6 (RFC 8200 §8.1): `addresses` are source and destination, 32 octets.
    #[must_use]
    pub fn pseudo(self, addresses: &[u8], protocol: u8, length: usize) -> Self {
        let length = length as u32;
        self.add(addresses).word((length >> 16) as u16).word(length as u16).word(u16::from(protocol))
    }

    /// The sum itself: 0xffff over octets whose checksum is right.
    #[must_use]
    pub fn folded(self) -> u16 {
        fold(self.0)
    }

    /// What is written into a header.
    #[must_use]
    pub fn complement(self) -> u16 {
        !self.folded()
    }
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slow(octets: &[u8]) -> u16 {
        let sum = octets
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low)));
        fold(sum.sum())
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1071 §3.
        assert_eq!(Sum::default().add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).folded(), 0xddf2);
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(octets in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            prop_assert_eq!(Sum::default().add(&octets).folded(), slow(&octets));
            let cut = cut.min(octets.len()) / 2 * 2;
            prop_assert_eq!(Sum::default().add(&octets[..cut]).add(&octets[cut..]).folded(), slow(&octets));
        }
    }

    #[test]
    #[ignore = "prints a speed"]
    fn speed() {
        let octets = vec![0x5a; 1440];
        let start = std::time::Instant::now();
        let mut all = 0;
        for _ in 0..1_000_000 {
            all += u64::from(Sum::default().add(std::hint::black_box(&octets)).folded());
        }
        println!("{:.1} GB/s ({all})", 1.44 / start.elapsed().as_secs_f64());
    }
}
