//! First messages of handshakes that nobody can complete, with the MAC that makes a responder look at them.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, Mac, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};

/// Octets of a handshake initiation (whitepaper §5.4.2).
pub const INITIATION: usize = 148;
/// The first octet of a handshake response, and of a cookie reply (whitepaper §5.4.3, §5.4.7).
pub const RESPONSE: u8 = 2;
pub const COOKIE_REPLY: u8 = 3;

/// Where MAC1 stands in an initiation; MAC2 after it stays zero.
const MAC1: usize = 116;

/// Forges initiations for one responder.
#[derive(Debug, Clone)]
pub struct Forger {
    /// HASH("mac1----" || the responder's public key), whitepaper §5.4.4.
    key: [u8; 32],
}

impl Forger {
    /// For the holder of this public key.
    #[must_use]
    pub fn new(public: &[u8; 32]) -> Self {
        let hash = Blake2s256::new().chain_update(b"mac1----").chain_update(public);
        Self { key: hash.finalize().into() }
    }

    /// An initiation of which only the shape and MAC1 are right; everything else follows from the seed.
    #[must_use]
    pub fn initiation(&self, seed: u64) -> [u8; INITIATION] {
        let mut message = [0; INITIATION];
        message[0] = 1;
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        for octet in &mut message[4..MAC1] {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            *octet = (dice >> 32) as u8;
        }
        let mac = self.mac(&message[..MAC1]);
        message[MAC1..MAC1 + 16].copy_from_slice(&mac);
        message
    }

    fn mac(&self, octets: &[u8]) -> [u8; 16] {
        let mut mac: Blake2sMac<U16> = match Mac::new_from_slice(&self.key) {
            Ok(mac) => mac,
            Err(_) => unreachable!("a key of 32 octets is what BLAKE2s takes at most"),
        };
        Update::update(&mut mac, octets);
        mac.finalize_fixed().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_differ_by_their_seed_and_have_the_shape_of_an_initiation() {
        let forger = Forger::new(&[7; 32]);
        let (one, two) = (forger.initiation(1), forger.initiation(2));
        assert_eq!((one.len(), &one[..4]), (148, &[1, 0, 0, 0][..]));
        assert_ne!(one[4..MAC1], two[4..MAC1]);
        assert_ne!(one[MAC1..MAC1 + 16], two[MAC1..MAC1 + 16]);
        assert_eq!(one, forger.initiation(1));
        assert_eq!(one[132..], [0; 16]);
        let other = Forger::new(&[8; 32]).initiation(1);
        assert_eq!(one[..MAC1], other[..MAC1]);
        assert_ne!(one[MAC1..], other[MAC1..]);
    }
}
