//! BGP messages built by hand, right or wrong on purpose.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use crate::bgp_stream::framing::{HEADER, MAX_MESSAGE};
use crate::bgp_stream::message::{AFI_IPV4, AFI_IPV6, AS_TRANS, SAFI_UNICAST};

pub const OPEN: u8 = 1;
pub const UPDATE: u8 = 2;
pub const NOTIFICATION: u8 = 3;
pub const KEEPALIVE: u8 = 4;
pub const ROUTE_REFRESH: u8 = 5;

/// Any type and body behind a right marker and length.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    header([0xff; 16], length, kind, body)
}

/// A header that says whatever it is told to, and then `body`.
pub fn header(marker: [u8; 16], length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = marker.to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An OPEN with four-octet AS, route refresh and these families (AFI, SAFI).
pub fn open(asn: u32, hold_s: u16, router_id: Ipv4Addr, families: &[(u16, u8)]) -> Vec<u8> {
    let mut capabilities = Vec::new();
    for (afi, safi) in families {
        capabilities.extend([1, 4]);
        capabilities.extend(afi.to_be_bytes());
        capabilities.extend([0, *safi]);
    }
    capabilities.extend([2, 0]);
    capabilities.extend([65, 4]);
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
    body.extend(hold_s.to_be_bytes());
    body.extend(router_id.octets());
    // One optional parameter (RFC 5492): more than 40 families would not fit, and no test offers as many.
    let length = u8::try_from(capabilities.len()).unwrap_or(u8::MAX - 2);
    body.extend([length + 2, 2, length]);
    body.extend(&capabilities[..length.into()]);
    message(OPEN, &body)
}

pub fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, &[])
}

pub fn notification(code: u8, subcode: u8, data: &[u8]) -> Vec<u8> {
    message(NOTIFICATION, &[&[code, subcode], data].concat())
}

pub fn route_refresh(afi: u16) -> Vec<u8> {
    let afi = afi.to_be_bytes();
    message(ROUTE_REFRESH, &[afi[0], afi[1], 0, SAFI_UNICAST])
}

/// An UPDATE from its three parts, with their lengths filled in.
pub fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in [withdrawn, attributes] {
        body.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        body.extend(part);
    }
    body.extend(nlri);
    message(UPDATE, &body)
}

/// One attribute; the two-octet length is used when it must be.
pub fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match u8::try_from(value.len()) {
        Ok(length) => bytes.extend([flags & !0x10, kind, length]),
        Err(_) => {
            bytes.extend([flags | 0x10, kind]);
            bytes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    bytes.extend(value);
    bytes
}

/// ORIGIN IGP, an AS_SEQUENCE of four-octet numbers, and NEXT_HOP if it is IPv4.
pub fn attributes(as_path: &[u32], next_hop: IpAddr) -> Vec<u8> {
    let mut path = vec![2, u8::try_from(as_path.len()).unwrap_or(u8::MAX)];
    for asn in as_path.iter().take(255) {
        path.extend(asn.to_be_bytes());
    }
    let mut bytes = attribute(0x40, 1, &[0]);
    bytes.extend(attribute(0x40, 2, if as_path.is_empty() { &[] } else { &path }));
    if let IpAddr::V4(next_hop) = next_hop {
        bytes.extend(attribute(0x40, 3, &next_hop.octets()));
    }
    bytes
}

/// Prefixes as NLRI (RFC 4271 §4.3).
pub fn nlri(prefixes: &[IpNetwork]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for prefix in prefixes {
        bytes.push(prefix.prefix());
        let octets = usize::from(prefix.prefix()).div_ceil(8);
        match prefix.network() {
            IpAddr::V4(address) => bytes.extend(&address.octets()[..octets]),
            IpAddr::V6(address) => bytes.extend(&address.octets()[..octets]),
        }
    }
    bytes
}

/// UPDATEs that announce all of these (of one family), as few as fit.
pub fn announce(prefixes: &[IpNetwork], as_path: &[u32], next_hop: IpAddr) -> Vec<u8> {
    let attributes = attributes(as_path, next_hop);
    in_messages(prefixes, attributes.len() + 64, |chunk| {
        if chunk.first().is_some_and(|prefix| prefix.is_ipv4()) {
            return update(&[], &attributes, &nlri(chunk));
        }
        let mut reach = AFI_IPV6.to_be_bytes().to_vec();
        reach.push(SAFI_UNICAST);
        match next_hop {
            IpAddr::V4(address) => {
                reach.push(4);
                reach.extend(address.octets());
            }
            IpAddr::V6(address) => {
                reach.push(16);
                reach.extend(address.octets());
            }
        }
        reach.push(0);
        reach.extend(nlri(chunk));
        update(&[], &[attribute(0x80, 14, &reach), attributes.clone()].concat(), &[])
    })
}

/// UPDATEs that withdraw all of these (of one family), as few as fit.
pub fn withdraw(prefixes: &[IpNetwork]) -> Vec<u8> {
    in_messages(prefixes, 64, |chunk| {
        if chunk.first().is_some_and(|prefix| prefix.is_ipv4()) {
            return update(&nlri(chunk), &[], &[]);
        }
        let mut unreach = AFI_IPV6.to_be_bytes().to_vec();
        unreach.push(SAFI_UNICAST);
        unreach.extend(nlri(chunk));
        update(&[], &attribute(0x80, 15, &unreach), &[])
    })
}

/// `count` different /24s from `first` on, for tests of many prefixes.
pub fn many(first: Ipv4Addr, count: u32) -> Vec<IpNetwork> {
    (0..count)
        .filter_map(|n| {
            let bits = (u32::from(first) & 0xffff_ff00).wrapping_add(n << 8);
            IpNetwork::new(IpAddr::V4(Ipv4Addr::from(bits)), 24).ok()
        })
        .collect()
}

/// End-of-RIB of a family (RFC 4724 §2).
pub fn end_of_rib(afi: u16) -> Vec<u8> {
    if afi == AFI_IPV4 {
        return update(&[], &[], &[]);
    }
    let afi = afi.to_be_bytes();
    update(&[], &attribute(0x80, 15, &[afi[0], afi[1], SAFI_UNICAST]), &[])
}

fn in_messages(prefixes: &[IpNetwork], overhead: usize, build: impl Fn(&[IpNetwork]) -> Vec<u8>) -> Vec<u8> {
    // The largest prefix takes 17 octets.
    let fit = (MAX_MESSAGE - HEADER - 4).saturating_sub(overhead) / 17;
    prefixes.chunks(fit.max(1)).flat_map(build).collect()
}
