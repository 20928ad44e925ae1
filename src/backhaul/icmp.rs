//! Answers to packets that cannot be carried (RFC 4443): too big, and no way to there.

use std::net::Ipv6Addr;

/// The longest answer: an IPv6 host takes any packet of this length.
pub const MOST: usize = 1280;
const HEADERS: usize = 40 + 8;
const ICMPV6: u8 = 58;

/// Why a packet is sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// RFC 4443 §3.2: longer than the path to where it wants to go. The MTU is never told under 1280.
    TooBig { mtu: u16 },
    /// RFC 4443 §3.1, code 0: nobody has that address.
    NoRoute,
}

/// Writes the answer into `out` and returns its length. None: to this packet no answer may be given (RFC 4443 §2.4 e):
/// it is none, it is an ICMPv6 error itself, or nobody in particular sent it or is meant.
pub fn answer(refusal: Refusal, packet: &[u8], from: Ipv6Addr, out: &mut [u8; MOST]) -> Option<usize> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let address = |at: usize| Some(Ipv6Addr::from(*header[at..].first_chunk::<16>()?));
    let (source, target) = (address(8)?, address(24)?);
    let is_error = header[6] == ICMPV6 && packet.get(40).is_none_or(|kind| *kind < 128);
    if header[0] >> 4 != 6 || source.is_unspecified() || source.is_multicast() || is_error {
        return None;
    }
    // Too big is told to senders of multicast as well.
    if target.is_multicast() && refusal == Refusal::NoRoute {
        return None;
    }
    let quoted = packet.len().min(MOST - HEADERS);
    let length = 8 + quoted;
    out[..8].copy_from_slice(&[0x60, 0, 0, 0, (length >> 8) as u8, length as u8, ICMPV6, 64]);
    out[8..24].copy_from_slice(&from.octets());
    out[24..40].copy_from_slice(&source.octets());
    let (kind, word) = match refusal {
        Refusal::TooBig { mtu } => (2, u32::from(mtu.max(1280))),
        Refusal::NoRoute => (1, 0),
    };
    out[40..44].copy_from_slice(&[kind, 0, 0, 0]);
    out[44..48].copy_from_slice(&word.to_be_bytes());
    out[HEADERS..HEADERS + quoted].copy_from_slice(&packet[..quoted]);
    let sum = !checksum(&out[8..40], &out[40..40 + length]);
    out[42..44].copy_from_slice(&sum.to_be_bytes());
    Some(40 + length)
}

/// RFC 1071 over the pseudo-header (RFC 8200 §8.1) and the message.
fn checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let words = addresses.chunks(2).chain(message.chunks(2));
    let sum: u32 =
        words.map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
    let mut sum = sum + message.len() as u32 + u32::from(ICMPV6);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next: u8, kind: u8, length: usize) -> Vec<u8> {
        let mut packet = vec![0; length];
        packet[0] = 0x60;
        packet[6] = next;
        packet[8..24].copy_from_slice(&"fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        packet[24..40].copy_from_slice(&"fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        packet[40] = kind;
        packet
    }

    #[test]
    fn the_answer_quotes_what_fits_and_its_checksum_is_right() {
        let from = "fd00::ffff".parse().unwrap();
        for length in [41, 100, 1231, 1232, 1233, 9000] {
            let packet = packet(6, 1, length);
            let mut out = [0; MOST];
            let total = answer(Refusal::TooBig { mtu: 1336 }, &packet, from, &mut out).unwrap();
            assert_eq!(total, (length + HEADERS).min(MOST), "{length}");
            assert_eq!(&out[HEADERS..total], &packet[..total - HEADERS]);
            assert_eq!(checksum(&out[8..40], &out[40..total]), 0xffff, "{length}");
            assert_eq!(out[44..48], 1336u32.to_be_bytes());
        }
    }

    #[test]
    fn some_packets_are_not_answered() {
        let from = "fd00::ffff".parse().unwrap();
        let said = |packet: &[u8]| answer(Refusal::NoRoute, packet, from, &mut [0; MOST]).is_some();
        assert!(said(&packet(58, 128, 64)));
        assert!(!said(&packet(58, 1, 64)), "an error about an error");
        assert!(!said(&packet(6, 1, 41)[..39]), "no header");
        let mut nobody = packet(6, 1, 64);
        nobody[8..24].fill(0);
        assert!(!said(&nobody));
        let mut many = packet(6, 1, 64);
        many[24] = 0xff;
        assert!(!said(&many));
        assert!(answer(Refusal::TooBig { mtu: 1280 }, &many, from, &mut [0; MOST]).is_some());
        let mut v4 = packet(6, 1, 64);
        v4[0] = 0x45;
        assert!(!said(&v4));
    }
}
