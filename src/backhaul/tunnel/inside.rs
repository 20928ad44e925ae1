//! What must be true of a packet that came out of a tunnel, and how long it is made before it goes in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Reason;

/// The packet without its padding, if it is one and `allowed` says that its source is the peer's.
///
/// # Errors
/// `BadPacket` for what is no whole IP packet, `ForeignSource` for a source of somebody else.
pub(super) fn check(octets: &[u8], allowed: impl Fn(IpAddr) -> bool) -> Result<&[u8], Reason> {
    let (length, source) = measure(octets).ok_or(Reason::BadPacket)?;
    let packet = octets.get(..length).ok_or(Reason::BadPacket)?;
    if allowed(source) { Ok(packet) } else { Err(Reason::ForeignSource) }
}

/// The length that the header names, and the source.
fn measure(octets: &[u8]) -> Option<(usize, IpAddr)> {
    match octets.first()? >> 4 {
        4 => {
            let header: &[u8; 20] = octets.first_chunk()?;
            let own = usize::from(header[0] & 15) * 4;
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
            (own >= 20 && length >= own).then_some((length, source.into()))
        }
        6 => {
            let header: &[u8; 40] = octets.first_chunk()?;
            let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
            let source: &[u8; 16] = header[8..].first_chunk()?;
            Some((length, Ipv6Addr::from(*source).into()))
        }
        _ => None,
    }
}

/// A packet's length with its padding: a multiple of 16 octets, but never more than the MTU because of that.
pub(super) fn padded(length: usize, mtu: usize) -> usize {
    length.next_multiple_of(16).min(mtu.max(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(first: u8, length: u16, octets: usize) -> Vec<u8> {
        let mut packet = vec![0; octets];
        packet[0] = first;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet
    }

    fn v6(length: u16, octets: usize) -> Vec<u8> {
        let mut packet = vec![0; octets];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&length.to_be_bytes());
        packet[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packet
    }

    #[test]
    fn what_is_refused() {
        let table = [
            ("whole", v4(0x45, 20, 20), Ok(20)),
            ("padded", v4(0x45, 21, 32), Ok(21)),
            ("options", v4(0x46, 24, 32), Ok(24)),
            ("header longer than the packet", v4(0x46, 20, 32), Err(Reason::BadPacket)),
            ("header too short", v4(0x44, 20, 32), Err(Reason::BadPacket)),
            ("length under the header", v4(0x45, 19, 32), Err(Reason::BadPacket)),
            ("longer than what came", v4(0x45, 33, 32), Err(Reason::BadPacket)),
            ("no header", v4(0x45, 20, 20)[..19].to_vec(), Err(Reason::BadPacket)),
            ("IPv6", v6(8, 48), Ok(48)),
            ("IPv6 padded", v6(0, 48), Ok(40)),
            ("IPv6 longer than what came", v6(9, 48), Err(Reason::BadPacket)),
            ("IPv6 without a header", v6(0, 40)[..39].to_vec(), Err(Reason::BadPacket)),
            ("version 5", v4(0x55, 20, 20), Err(Reason::BadPacket)),
            ("nothing", vec![], Err(Reason::BadPacket)),
        ];
        for (name, octets, expected) in table {
            assert_eq!(check(&octets, |_| true).map(<[u8]>::len), expected, "{name}");
        }
        let mine = |source: IpAddr| source == IpAddr::from([10, 0, 0, 1]);
        assert!(check(&v4(0x45, 20, 20), mine).is_ok());
        assert_eq!(check(&v6(0, 40), mine), Err(Reason::ForeignSource));
    }

    #[test]
    fn padding_stays_within_the_mtu() {
        for (length, mtu, expected) in [
            (0, 1420, 0),
            (1, 1420, 16),
            (16, 1420, 16),
            (1409, 1420, 1420),
            (1420, 1420, 1420),
            (1430, 1420, 1430),
        ] {
            assert_eq!(padded(length, mtu), expected, "{length} of {mtu}");
        }
    }
}
