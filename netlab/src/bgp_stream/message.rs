//! BGP messages decoded for reading: total on any bytes, and lenient where a speaker must not be.
//!
//! Deliberately not the codec that edgeproxy itself uses: what is observed must not share its mistakes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::Kind;
use super::framing::HEADER;

/// RFC 6793 §9: stands for an AS number that does not fit two octets.
pub const AS_TRANS: u16 = 23456;
pub const AFI_IPV4: u16 = 1;
pub const AFI_IPV6: u16 = 2;
pub const SAFI_UNICAST: u8 = 1;

/// RFC 4271 §4.2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Open {
    /// The four-octet number if one was offered.
    pub asn: u32,
    /// Seconds.
    pub hold_s: u16,
    pub router_id: String,
    pub offers_as4: bool,
    /// Families offered (RFC 4760), as AFI and SAFI.
    pub families: Vec<(u16, u8)>,
    /// Codes of all capabilities offered, in order.
    pub capabilities: Vec<u8>,
}

/// RFC 4271 §4.3, with the multiprotocol attributes of RFC 4760 folded into the two lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    pub announced: Vec<IpNetwork>,
    pub withdrawn: Vec<IpNetwork>,
    pub attributes: Attributes,
}

/// Path attributes, as far as an announcement of edgeproxy can carry them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// 0 IGP, 1 EGP, 2 incomplete.
    pub origin: Option<u8>,
    /// Flat: members of sets stand in their place.
    pub as_path: Vec<u32>,
    /// Of the IPv4 NLRI, or of MP_REACH_NLRI if there is one.
    pub next_hop: Option<IpAddr>,
    pub link_local: Option<Ipv6Addr>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    /// `64500:666`.
    pub communities: Vec<String>,
    /// `64500:1:2`.
    pub large_communities: Vec<String>,
    /// Types of all attributes in the message, in order.
    pub types: Vec<u8>,
}

/// RFC 4271 §4.5.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notification {
    pub code: u8,
    pub subcode: u8,
    /// The shutdown communication (RFC 9003) of a Cease, if there is one.
    pub text: String,
    pub data: Vec<u8>,
}

/// Decodes one framed message. `as4`: AS numbers in AS_PATH have four octets.
pub fn decode(message: &[u8], as4: bool) -> Kind {
    let (Some(&kind), Some(body)) = (message.get(HEADER - 1), message.get(HEADER..)) else {
        return Kind::Malformed("shorter than a header".to_owned());
    };
    let mut body = Reader(body);
    let decoded = match kind {
        1 => open(&mut body).map(Kind::Open),
        2 => update(&mut body, as4).map(|update| Kind::Update(Box::new(update))),
        3 => notification(&mut body).map(Kind::Notification),
        4 if body.0.is_empty() => Some(Kind::Keepalive),
        5 => route_refresh(&mut body),
        _ => None,
    };
    decoded.unwrap_or_else(|| {
        Kind::Malformed(format!("a message of type {kind} and {} bytes that does not decode", message.len()))
    })
}

impl Update {
    /// RFC 4724 §2: nothing announced, nothing withdrawn.
    pub fn is_end_of_rib(&self) -> bool {
        self.announced.is_empty()
            && self.withdrawn.is_empty()
            && self.attributes.types.iter().all(|kind| *kind == 15)
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UPDATE")?;
        if self.is_end_of_rib() {
            return f.write_str(" End-of-RIB");
        }
        for prefix in &self.withdrawn {
            write!(f, " -{prefix}")?;
        }
        for prefix in &self.announced {
            write!(f, " +{prefix}")?;
        }
        if self.announced.is_empty() {
            return Ok(());
        }
        let attributes = &self.attributes;
        if let Some(next_hop) = attributes.next_hop {
            write!(f, " via {next_hop}")?;
        }
        write!(f, " path {:?}", attributes.as_path)?;
        if let Some(med) = attributes.med {
            write!(f, " med {med}")?;
        }
        for community in attributes.communities.iter().chain(&attributes.large_communities) {
            write!(f, " {community}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NOTIFICATION {}/{}", self.code, self.subcode)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " {:?}", self.text) }
    }
}

fn open(body: &mut Reader<'_>) -> Option<Open> {
    let _version = body.u8()?;
    let mut open = Open {
        asn: u32::from(body.u16()?),
        hold_s: body.u16()?,
        router_id: Ipv4Addr::from(body.u32()?).to_string(),
        ..Open::default()
    };
    let length = body.u8()?;
    // RFC 9072 §2: 255 followed by type 255 means two-octet lengths.
    let extended = length == 255 && body.0.first() == Some(&255);
    let mut parameters = if extended {
        body.u8()?;
        let length = body.u16()?;
        body.take(length.into())?
    } else {
        body.take(length.into())?
    };
    while !parameters.0.is_empty() {
        let kind = parameters.u8()?;
        let length = if extended { parameters.u16()?.into() } else { usize::from(parameters.u8()?) };
        let mut value = parameters.take(length)?;
        // RFC 5492 §4: parameter 2 holds capabilities.
        while kind == 2 && !value.0.is_empty() {
            let code = value.u8()?;
            let length = value.u8()?;
            let mut data = value.take(length.into())?;
            open.capabilities.push(code);
            match code {
                1 => {
                    let afi = data.u16()?;
                    data.u8()?;
                    open.families.push((afi, data.u8()?));
                }
                65 => {
                    open.asn = data.u32()?;
                    open.offers_as4 = true;
                }
                _ => {}
            }
        }
    }
    Some(open)
}

fn update(body: &mut Reader<'_>, as4: bool) -> Option<Update> {
    let mut update = Update::default();
    let length = body.u16()?;
    update.withdrawn = prefixes(&mut body.take(length.into())?, AFI_IPV4)?;
    let length = body.u16()?;
    let mut attributes = body.take(length.into())?;
    while !attributes.0.is_empty() {
        attribute(&mut attributes, as4, &mut update)?;
    }
    update.announced.extend(prefixes(body, AFI_IPV4)?);
    Some(update)
}

fn attribute(attributes: &mut Reader<'_>, as4: bool, update: &mut Update) -> Option<()> {
    let flags = attributes.u8()?;
    let kind = attributes.u8()?;
    // RFC 4271 §4.3: the fourth bit says that the length has two octets.
    let length = if flags & 0x10 != 0 { attributes.u16()?.into() } else { usize::from(attributes.u8()?) };
    let mut value = attributes.take(length)?;
    let found = &mut update.attributes;
    found.types.push(kind);
    match kind {
        1 => found.origin = Some(value.u8()?),
        2 => {
            while !value.0.is_empty() {
                let _segment_kind = value.u8()?;
                for _ in 0..value.u8()? {
                    found.as_path.push(if as4 { value.u32()? } else { value.u16()?.into() });
                }
            }
        }
        3 => {
            let next_hop = IpAddr::V4(Ipv4Addr::from(value.u32()?));
            found.next_hop.get_or_insert(next_hop);
        }
        4 => found.med = Some(value.u32()?),
        5 => found.local_pref = Some(value.u32()?),
        8 => {
            while !value.0.is_empty() {
                found.communities.push(format!("{}:{}", value.u16()?, value.u16()?));
            }
        }
        14 => {
            let afi = value.u16()?;
            let safi = value.u8()?;
            let length = value.u8()?;
            let mut next_hop = value.take(length.into())?;
            let _reserved = value.u8()?;
            if safi != SAFI_UNICAST {
                return Some(());
            }
            found.next_hop = next_hop.address();
            // RFC 2545 §3: a global address, and possibly a link-local one behind it.
            if let Some(IpAddr::V6(address)) = next_hop.address() {
                found.link_local = Some(address);
            }
            update.announced.extend(prefixes(&mut value, afi)?);
        }
        15 => {
            let afi = value.u16()?;
            if value.u8()? == SAFI_UNICAST {
                update.withdrawn.extend(prefixes(&mut value, afi)?);
            }
        }
        32 => {
            while !value.0.is_empty() {
                let community = format!("{}:{}:{}", value.u32()?, value.u32()?, value.u32()?);
                found.large_communities.push(community);
            }
        }
        _ => {}
    }
    Some(())
}

/// RFC 4271 §4.3: bits, then as many octets as hold them.
fn prefixes(reader: &mut Reader<'_>, afi: u16) -> Option<Vec<IpNetwork>> {
    let mut found = Vec::new();
    while !reader.0.is_empty() {
        let bits = reader.u8()?;
        let octets = reader.take(usize::from(bits).div_ceil(8))?.0;
        let network = if afi == AFI_IPV4 {
            let mut address = [0u8; 4];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            IpNetwork::new(IpAddr::from(address), bits).ok()?
        } else {
            let mut address = [0u8; 16];
            address.get_mut(..octets.len())?.copy_from_slice(octets);
            IpNetwork::new(IpAddr::from(address), bits).ok()?
        };
        // Bits beyond the length mean nothing (RFC 4271 §4.3).
        found.push(IpNetwork::new(network.network(), bits).ok()?);
    }
    Some(found)
}

fn notification(body: &mut Reader<'_>) -> Option<Notification> {
    let (code, subcode) = (body.u8()?, body.u8()?);
    let data = body.0.to_vec();
    // RFC 9003 §2: administrative shutdown and reset carry a counted text.
    let text = match (code, subcode, data.split_first()) {
        (6, 2 | 4, Some((length, text))) => {
            String::from_utf8_lossy(&text[..text.len().min(usize::from(*length))]).into_owned()
        }
        _ => String::new(),
    };
    Some(Notification { code, subcode, text, data })
}

fn route_refresh(body: &mut Reader<'_>) -> Option<Kind> {
    let afi = body.u16()?;
    let _subtype = body.u8()?;
    Some(Kind::RouteRefresh { afi, safi: body.u8()? })
}

/// Takes bytes from the front; `None` where they are missing.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<Reader<'a>> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(Reader(taken))
    }

    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?.0[0])
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.0;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?.0;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Sixteen octets if there are as many, else four.
    fn address(&mut self) -> Option<IpAddr> {
        if self.0.len() >= 16 {
            let mut octets = [0u8; 16];
            octets.copy_from_slice(self.take(16)?.0);
            return Some(IpAddr::from(octets));
        }
        self.u32().map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(((HEADER + body.len()) as u16).to_be_bytes());
        bytes.push(kind);
        bytes.extend(body);
        bytes
    }

    fn body(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
        let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
        body.extend(withdrawn);
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        body.extend(nlri);
        body
    }

    fn updated(bytes: &[u8], as4: bool) -> Update {
        match decode(bytes, as4) {
            Kind::Update(update) => *update,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_update_of_both_families_is_one_list_each() {
        let attributes = [
            &[0x40, 1, 1, 0][..],
            &[0x40, 2, 6, 2, 2, 0xfb, 0xf4, 0xfc, 0x00], // two-octet AS numbers
            &[0x40, 3, 4, 10, 0, 0, 1],
            &[0xc0, 8, 4, 0xff, 0xff, 0, 0], // GRACEFUL_SHUTDOWN (RFC 8326)
            // MP_UNREACH_NLRI with the extended length it does not need.
            &[0x90, 15, 0, 8, 0, 2, 1, 32, 0x20, 0x01, 0x0d, 0xb8],
        ]
        .concat();
        let update = updated(&framed(2, &body(&[0], &attributes, &[24, 198, 51, 100, 9, 10, 0xff])), false);
        let text = |list: &[IpNetwork]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&update.withdrawn), ["0.0.0.0/0", "2001:db8::/32"]);
        // Host bits beyond the length are dropped: 10.255/9 is 10.128.0.0/9.
        assert_eq!(text(&update.announced), ["198.51.100.0/24", "10.128.0.0/9"]);
        assert_eq!(update.attributes.as_path, [64500, 64512]);
        assert_eq!(update.attributes.communities, ["65535:0"]);
        assert_eq!(update.attributes.types, [1, 2, 3, 8, 15]);
        assert!(!update.is_end_of_rib());
    }

    #[test]
    fn end_of_rib_of_either_family() {
        assert!(updated(&framed(2, &body(&[], &[], &[])), true).is_end_of_rib());
        assert!(updated(&framed(2, &body(&[], &[0x80, 15, 3, 0, 2, 1], &[])), true).is_end_of_rib());
    }

    #[test]
    fn what_does_not_fit_is_malformed() {
        for (kind, body) in [
            (1, vec![4, 0, 1]),
            (2, body(&[33, 1, 2, 3, 4, 5], &[], &[])),
            (2, body(&[], &[0x40, 1, 5, 0], &[])),
            (2, vec![0, 9, 0, 0]),
            (2, body(&[], &[], &[24, 1])),
            (3, vec![6]),
            (4, vec![0]),
            (9, vec![]),
        ] {
            assert!(matches!(decode(&framed(kind, &body), true), Kind::Malformed(_)), "{kind} {body:?}");
        }
    }

    #[test]
    fn a_shutdown_communication_is_read_and_a_false_length_is_survived() {
        for (data, text) in [(&b"\x03bye"[..], "bye"), (b"\xc8bye", "bye"), (b"", "")] {
            let body = [&[6, 2], data].concat();
            assert!(matches!(decode(&framed(3, &body), true), Kind::Notification(n) if n.text == text));
        }
    }

    proptest! {
        #[test]
        fn any_body_is_survived(kind in 0u8..7, body in prop::collection::vec(any::<u8>(), 0..200), as4: bool) {
            let _ = decode(&framed(kind, &body), as4);
        }
    }
}
