//! What is left to do for a packet of a TUN: struct virtio_net_hdr of the virtio specification, §5.1.6.

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offload {
    /// The field at `checksum_start + checksum_offset` holds the sum of the pseudo-header only.
    pub needs_checksum: bool,
    pub kind: Gso,
    /// Octets of all headers, of a packet that is to be cut.
    pub header: u16,
    /// Octets of payload of each packet that it is to be cut into.
    pub size: u16,
    pub checksum_start: u16,
    pub checksum_offset: u16,
}

/// What a packet is to be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gso {
    #[default]
    None,
    Tcp4,
    Tcp6,
    Udp,
}

/// No packet that we know what to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no packet that can be cut")]
pub struct Malformed;

const NEEDS_CSUM: u8 = 1;
/// The kind may say that congestion marks are in use; cutting does the right thing with them anyway.
const ECN: u8 = 0x80;

impl Offload {
    pub const LENGTH: usize = 10;

    /// # Errors
    /// An unknown kind.
    pub fn decode(octets: &[u8; Self::LENGTH]) -> Result<Self, Malformed> {
        let word = |at: usize| u16::from_ne_bytes([octets[at], octets[at + 1]]);
        let kind = match octets[1] & !ECN {
            0 => Gso::None,
            1 => Gso::Tcp4,
            4 => Gso::Tcp6,
            5 => Gso::Udp,
            _ => return Err(Malformed),
        };
        Ok(Self {
            needs_checksum: octets[0] & NEEDS_CSUM != 0,
            kind,
            header: word(2),
            size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        })
    }

    #[must_use]
    pub fn encode(&self) -> [u8; Self::LENGTH] {
        let mut octets = [0; Self::LENGTH];
        octets[0] = if self.needs_checksum { NEEDS_CSUM } else { 0 };
        octets[1] = match self.kind {
            Gso::None => 0,
            Gso::Tcp4 => 1,
            Gso::Tcp6 => 4,
            Gso::Udp => 5,
        };
        let words = [self.header, self.size, self.checksum_start, self.checksum_offset];
        for (to, word) in octets[2..].chunks_exact_mut(2).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        for kind in [Gso::None, Gso::Tcp4, Gso::Tcp6, Gso::Udp] {
            let offload = Offload {
                needs_checksum: true,
                kind,
                header: 60,
                size: 1380,
                checksum_start: 40,
                checksum_offset: 16,
            };
            assert_eq!(Offload::decode(&offload.encode()), Ok(offload));
        }
        assert_eq!(
            Offload::decode(&[0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]).map(|offload| offload.kind),
            Ok(Gso::Tcp4)
        );
        assert_eq!(Offload::decode(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed));
    }
}
