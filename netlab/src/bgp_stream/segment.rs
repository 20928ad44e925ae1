//! Network-layer packets taken apart: addresses, ports, TCP segments, ARP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_ARP: u16 = 0x0806;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// IPv6 extension headers followed before giving up.
const MAX_EXTENSIONS: usize = 8;

/// What one packet says, borrowing its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    Tcp(Segment<'a>),
    Udp {
        from: SocketAddr,
        to: SocketAddr,
        payload: &'a [u8],
    },
    /// Another protocol over IP, or a fragment: only the addresses are known.
    Other {
        from: IpAddr,
        to: IpAddr,
        protocol: u8,
    },
    /// `request` asks who has `target`; otherwise `sender` says that it is there.
    Arp {
        request: bool,
        sender: Ipv4Addr,
        target: Ipv4Addr,
    },
}

/// One TCP segment. Options (MD5 signatures too) are stepped over: the payload is in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet that begins at its network header; `None` if it is cut short or of another kind.
    pub fn parse(ethertype: u16, bytes: &'a [u8]) -> Option<Packet<'a>> {
        match ethertype {
            ETHERTYPE_IPV4 => ipv4(bytes),
            ETHERTYPE_IPV6 => ipv6(bytes),
            ETHERTYPE_ARP => arp(bytes),
            _ => None,
        }
    }

    pub fn source(&self) -> IpAddr {
        match self {
            Packet::Tcp(segment) => segment.from.ip(),
            Packet::Udp { from, .. } => from.ip(),
            Packet::Other { from, .. } => *from,
            Packet::Arp { sender, .. } => IpAddr::V4(*sender),
        }
    }

    pub fn target(&self) -> IpAddr {
        match self {
            Packet::Tcp(segment) => segment.to.ip(),
            Packet::Udp { to, .. } => to.ip(),
            Packet::Other { to, .. } => *to,
            Packet::Arp { target, .. } => IpAddr::V4(*target),
        }
    }
}

fn ipv4(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.get(..20)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // A segmentation-offloaded packet may say 0: then it is all there is.
    let end = if total == 0 { bytes.len() } else { total.min(bytes.len()) };
    let from = IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15]));
    let to = IpAddr::V4(Ipv4Addr::new(header[16], header[17], header[18], header[19]));
    // More fragments, or not the first: ports cannot be trusted.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Some(Packet::Other { from, to, protocol: header[9] });
    }
    transport(header[9], from, to, bytes.get(header_len.max(20)..end)?)
}

fn ipv6(bytes: &[u8]) -> Option<Packet<'_>> {
    let header = bytes.get(..40)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let end = if length == 0 { bytes.len() } else { (40 + length).min(bytes.len()) };
    let address = |at: usize| {
        let mut octets = [0u8; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let (from, to) = (address(8), address(24));
    let (mut protocol, mut rest) = (header[6], bytes.get(40..end)?);
    for _ in 0..MAX_EXTENSIONS {
        // Hop-by-hop, routing, destination options (RFC 8200 §4): same shape.
        if !matches!(protocol, 0 | 43 | 60) {
            break;
        }
        let length = (usize::from(*rest.get(1)?) + 1) * 8;
        protocol = rest[0];
        rest = rest.get(length..)?;
    }
    transport(protocol, from, to, rest)
}

fn transport(protocol: u8, from: IpAddr, to: IpAddr, bytes: &[u8]) -> Option<Packet<'_>> {
    let port = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    match protocol {
        6 => {
            let header = bytes.get(..20)?;
            let payload = bytes.get((usize::from(header[12] >> 4) * 4).max(20)..)?;
            let flags = header[13];
            Some(Packet::Tcp(Segment {
                from: SocketAddr::new(from, port(0)?),
                to: SocketAddr::new(to, port(2)?),
                seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                fin: flags & 0x01 != 0,
                syn: flags & 0x02 != 0,
                rst: flags & 0x04 != 0,
                ack: flags & 0x10 != 0,
                payload,
            }))
        }
        17 => Some(Packet::Udp {
            from: SocketAddr::new(from, port(0)?),
            to: SocketAddr::new(to, port(2)?),
            payload: bytes.get(8..)?,
        }),
        _ => Some(Packet::Other { from, to, protocol }),
    }
}

fn arp(bytes: &[u8]) -> Option<Packet<'_>> {
    let bytes = bytes.get(..28)?;
    // Ethernet and IPv4 only (RFC 826).
    if bytes[..6] != [0, 1, 0x08, 0x00, 6, 4] {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    Some(Packet::Arp { request: bytes[7] == 1, sender: address(14), target: address(24) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x30, 0x39, 0, 179, 0, 0, 0, 7, 0, 0, 0, 0];
        bytes.push(((20 + options.len()) * 4) as u8);
        bytes.extend([0x18, 0xff, 0xff, 0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend(payload);
        bytes
    }

    fn v4(protocol: u8, fragment: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0];
        bytes.extend(((20 + body.len()) as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_signed_segment_gives_its_payload_and_padding_is_not_payload() {
        // Kind 19, length 18: a TCP-MD5 signature (RFC 2385), then two NOPs.
        let mut signature = vec![19, 18];
        signature.extend([0xaa; 16]);
        signature.extend([1, 1]);
        let mut bytes = v4(6, 0x4000, &tcp(&signature, b"hello"));
        bytes.extend([0; 9]); // an Ethernet frame's padding
        let Some(Packet::Tcp(segment)) = Packet::parse(ETHERTYPE_IPV4, &bytes) else { panic!("not TCP") };
        assert_eq!(segment.payload, b"hello");
        assert_eq!((segment.from.port(), segment.to.port(), segment.seq), (12345, 179, 7));
        assert!(segment.ack && !segment.syn && !segment.fin && !segment.rst);
    }

    #[test]
    fn ipv6_extension_headers_are_stepped_over() {
        let body = tcp(&[], b"x");
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(((8 + body.len()) as u16).to_be_bytes());
        bytes.extend([60, 64]);
        bytes.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        bytes.extend(body);
        let packet = Packet::parse(ETHERTYPE_IPV6, &bytes).unwrap();
        assert_eq!(packet.source(), "2001:db8::1".parse::<IpAddr>().unwrap());
        assert!(matches!(packet, Packet::Tcp(segment) if segment.payload == b"x"));
    }

    #[test]
    fn fragments_and_other_protocols_give_addresses_only() {
        for (protocol, fragment) in [(6, 0x2000), (17, 0x0010), (1, 0)] {
            let bytes = v4(protocol, fragment, &tcp(&[], b""));
            assert!(
                matches!(Packet::parse(ETHERTYPE_IPV4, &bytes), Some(Packet::Other { protocol: p, .. }) if p == protocol)
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(ethertype in prop::sample::select(vec![0x0800u16, 0x0806, 0x86dd, 1]),
                                  bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Packet::parse(ethertype, &bytes);
        }
    }
}
