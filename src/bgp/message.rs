//! The codec's facade: octets to messages and back (RFC 4271 §4, RFC 4760, RFC 6793).
//!
//! `rustbgpd-wire` is named here and in [`super::fsm`] only, so that replacing it touches two files.

use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use rustbgpd_wire as wire;
use wire::attribute::{AsPath, AsPathSegment, MpReachNlri, MpUnreachNlri, Origin, PathAttribute};
use wire::nlri::{Ipv4NlriEntry, NlriEntry, Prefix};
use wire::notification::NotificationCode;
use wire::validate::ErrorDisposition;
use wire::{Afi, Safi};

use super::notification::Notification;
use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::{Asn, Community, Family, LargeCommunity};

/// The longest message: extended messages (RFC 8654) are not offered.
pub const MAX_MESSAGE: usize = 4096;

/// A message as it came, its frame and fixed fields already valid.
#[derive(Debug, Clone)]
pub enum Message {
    Open(Open),
    Update(Update),
    Notification(Notification),
    Keepalive,
    /// A ROUTE-REFRESH (RFC 2918); None for a family or a subtype that is not ours to answer.
    RouteRefresh(Option<Family>),
}

/// An OPEN. What it means is judged by the state machine.
#[derive(Debug, Clone)]
pub struct Open(pub(super) wire::OpenMessage);

impl Open {
    /// Who the sender says it is.
    #[must_use]
    pub fn asn(&self) -> Asn {
        Asn(self.0.four_byte_as())
    }

    /// The sender's BGP identifier.
    #[must_use]
    pub fn id(&self) -> Ipv4Addr {
        self.0.bgp_identifier
    }

    /// Drops every capability whose code is not listed.
    #[must_use]
    pub fn offering_only(mut self, codes: &[u8]) -> Self {
        self.0.capabilities.retain(|capability| codes.contains(&capability.code()));
        self
    }
}

/// An UPDATE whose three parts are framed but not yet parsed.
#[derive(Debug, Clone)]
pub struct Update(wire::UpdateMessage);

/// What an UPDATE said, after RFC 7606: the routes to count, and what was wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub announced: Vec<IpNetwork>,
    pub withdrawn: Vec<IpNetwork>,
    /// Why the announced routes count as withdrawn (they were moved there), or None.
    pub treated_as_withdraw: Option<String>,
}

/// Octets that are no message, with the NOTIFICATION that RFC 4271 §6 asks for.
#[derive(Debug, Clone)]
pub struct Malformed(pub(super) wire::DecodeError);

impl Malformed {
    /// What the neighbor is told.
    #[must_use]
    pub fn notification(&self) -> Notification {
        let (code, subcode, data) = self.0.to_notification();
        Notification { code: code.as_u8(), subcode, data }
    }
}

/// Cuts a stream of octets into messages. Holds at most one incomplete message and one read.
#[derive(Debug, Default)]
pub struct Decoder(BytesMut);

impl Decoder {
    /// Takes octets as they came.
    pub fn push(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    /// The next whole message, or None until more octets come.
    ///
    /// # Errors
    /// [`Malformed`]: the stream cannot be followed any further and the session must end.
    pub fn poll(&mut self) -> Result<Option<Message>, Malformed> {
        let limit = MAX_MESSAGE as u16;
        let Some(length) = wire::peek_message_length(&self.0, limit).map_err(Malformed)? else {
            return Ok(None);
        };
        if self.0.len() < usize::from(length) {
            return Ok(None);
        }
        let mut frame = self.0.split_to(usize::from(length)).freeze();
        let message = wire::decode_message(&mut frame, limit).map_err(|error| {
            Malformed(match error {
                // A ROUTE-REFRESH or NOTIFICATION with a bad body says OPEN error in the library's
                // table; the header's length is what is wrong (RFC 4271 §6.1).
                wire::DecodeError::MalformedField { message_type, .. }
                    if message_type != "OPEN" && message_type != "UPDATE" =>
                {
                    wire::DecodeError::InvalidLength { length }
                }
                other => other,
            })
        })?;
        Ok(Some(match message {
            wire::Message::Open(open) => Message::Open(Open(open)),
            wire::Message::Update(update) => Message::Update(Update(update)),
            wire::Message::Notification(n) => {
                Message::Notification(Notification { code: n.code.as_u8(), subcode: n.subcode, data: n.data })
            }
            wire::Message::RouteRefresh(refresh) => Message::RouteRefresh(asked_family(&refresh)),
            _ => Message::Keepalive,
        }))
    }
}

/// The family of a plain refresh request; anything else is ignored (RFC 7313 §5 applies only where
/// enhanced refresh was offered).
fn asked_family(refresh: &wire::RouteRefreshMessage) -> Option<Family> {
    if refresh.subtype_raw != 0 || refresh.orf.is_some() || refresh.safi() != Some(Safi::Unicast) {
        return None;
    }
    family_of(refresh.afi()?)
}

impl Update {
    /// Parses the UPDATE with the revised error handling of RFC 7606.
    ///
    /// # Errors
    /// The NOTIFICATION to send when the routes cannot be located and the session must end (RFC 7606 §3 j).
    pub fn parse(&self, four_octet_as: bool, internal: bool) -> Result<Routes, Notification> {
        let reset = |error: wire::DecodeError| Malformed(error).notification();
        let parsed = self.0.parse_revised(four_octet_as, internal, false, &[]).map_err(reset)?;
        let mut routes = Routes::default();
        let mut wrong = None::<String>;
        for fault in &parsed.malformed {
            match fault.disposition {
                ErrorDisposition::SessionReset => return Err(reset(fault.error.clone())),
                ErrorDisposition::TreatAsWithdraw => {
                    wrong.get_or_insert_with(|| {
                        format!("attribute type {}: {}", fault.type_code, fault.error)
                    });
                }
                ErrorDisposition::AttributeDiscard => {}
            }
        }
        routes.withdrawn.extend(parsed.update.withdrawn.iter().map(|e| v4(e.prefix)));
        routes.announced.extend(parsed.update.announced.iter().map(|e| v4(e.prefix)));
        for attribute in &parsed.update.attributes {
            match attribute {
                PathAttribute::MpReachNlri(reach) if reach.safi == Safi::Unicast => {
                    routes.announced.extend(reach.announced.iter().map(|e| network(e.prefix)));
                }
                PathAttribute::MpUnreachNlri(unreach) if unreach.safi == Safi::Unicast => {
                    routes.withdrawn.extend(unreach.withdrawn.iter().map(|e| network(e.prefix)));
                }
                _ => {}
            }
        }
        if wrong.is_none() {
            let judged = wire::validate::validate_update_attributes(
                &parsed.update.attributes,
                !routes.announced.is_empty(),
                !parsed.update.announced.is_empty(),
                !internal,
            );
            if let Err(error) = judged {
                if error.disposition == ErrorDisposition::SessionReset {
                    return Err(Notification { code: 3, subcode: error.subcode, data: error.data.into() });
                }
                if error.disposition == ErrorDisposition::TreatAsWithdraw {
                    wrong = Some(
                        wire::notification::description(NotificationCode::UpdateMessage, error.subcode)
                            .to_owned(),
                    );
                }
            }
        }
        if wrong.is_some() {
            // RFC 7606 §2: as though the routes had been listed as withdrawn.
            routes.withdrawn.append(&mut routes.announced);
            routes.treated_as_withdraw = wrong;
        }
        Ok(routes)
    }
}

/// The path attributes of routes as one neighbor gets them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathAttributes {
    pub next_hop: IpAddr,
    /// Our own AS as often as it stands in front; empty inside our AS.
    pub as_path: Vec<u32>,
    /// Only inside our AS (RFC 4271 §5.1.5).
    pub local_pref: Option<u32>,
    pub med: Option<u32>,
    pub communities: Vec<Community>,
    pub large_communities: Vec<LargeCommunity>,
}

/// A KEEPALIVE.
#[must_use]
pub fn keepalive() -> Bytes {
    encode(&wire::Message::Keepalive)
}

/// An OPEN.
#[must_use]
pub fn open(open: &Open) -> Bytes {
    encode(&wire::Message::Open(open.0.clone()))
}

/// A NOTIFICATION; data past the message's bound is cut.
#[must_use]
pub fn notification(notification: &Notification) -> Bytes {
    let most = MAX_MESSAGE - 21;
    let data = notification.data.slice(..notification.data.len().min(most));
    encode(&wire::Message::Notification(wire::NotificationMessage::new(
        NotificationCode::from_u8(notification.code),
        notification.subcode,
        data,
    )))
}

/// An UPDATE that announces prefixes of one family with the same attributes. The caller bounds their number.
#[must_use]
pub fn announce(prefixes: &[AnycastPrefix], attributes: &PathAttributes, four_octet_as: bool) -> Bytes {
    let mut list = vec![
        PathAttribute::Origin(Origin::Igp),
        PathAttribute::AsPath(AsPath {
            segments: match attributes.as_path.as_slice() {
                [] => Vec::new(),
                path => vec![AsPathSegment::AsSequence(path.to_vec())],
            },
        }),
    ];
    let mut body = Vec::new();
    match family_of_prefixes(prefixes) {
        // RFC 4271 §4.3: IPv4 routes with an IPv4 next hop stand in the body.
        Family::Ipv4 => {
            if let IpAddr::V4(next_hop) = attributes.next_hop {
                list.push(PathAttribute::NextHop(next_hop));
            }
            body = body_entries(prefixes);
        }
        Family::Ipv6 => list.push(PathAttribute::MpReachNlri(Box::new(MpReachNlri {
            afi: Afi::Ipv6,
            safi: Safi::Unicast,
            next_hop: attributes.next_hop,
            link_local_next_hop: None,
            announced: mp_entries(prefixes),
            flowspec_announced: Vec::new(),
            evpn_announced: Vec::new(),
            bgpls_announced: Vec::new(),
            vpn_announced: Vec::new(),
            labeled_announced: Vec::new(),
            rtc_announced: Vec::new(),
        }))),
    }
    list.extend(attributes.med.map(PathAttribute::Med));
    list.extend(attributes.local_pref.map(PathAttribute::LocalPref));
    if !attributes.communities.is_empty() {
        list.push(PathAttribute::Communities(attributes.communities.iter().map(|c| c.0).collect()));
    }
    if !attributes.large_communities.is_empty() {
        let large = attributes.large_communities.iter();
        list.push(PathAttribute::LargeCommunities(
            large.map(|&LargeCommunity(a, b, c)| wire::attribute::LargeCommunity::new(a, b, c)).collect(),
        ));
    }
    update(&body, &[], &list, four_octet_as)
}

/// An UPDATE that withdraws prefixes of one family. The caller bounds their number.
#[must_use]
pub fn withdraw(prefixes: &[AnycastPrefix]) -> Bytes {
    match family_of_prefixes(prefixes) {
        Family::Ipv4 => update(&[], &body_entries(prefixes), &[], true),
        Family::Ipv6 => {
            let unreach = PathAttribute::MpUnreachNlri(Box::new(MpUnreachNlri {
                afi: Afi::Ipv6,
                safi: Safi::Unicast,
                withdrawn: mp_entries(prefixes),
                flowspec_withdrawn: Vec::new(),
                evpn_withdrawn: Vec::new(),
                bgpls_withdrawn: Vec::new(),
                vpn_withdrawn: Vec::new(),
                labeled_withdrawn: Vec::new(),
                rtc_withdrawn: Vec::new(),
            }));
            update(&[], &[], &[unreach], true)
        }
    }
}

fn update(
    announced: &[Ipv4NlriEntry],
    withdrawn: &[Ipv4NlriEntry],
    attributes: &[PathAttribute],
    four_octet_as: bool,
) -> Bytes {
    encode(&wire::Message::Update(wire::UpdateMessage::build(
        announced,
        withdrawn,
        attributes,
        four_octet_as,
        false,
        wire::Ipv4UnicastMode::Body,
    )))
}

fn encode(message: &wire::Message) -> Bytes {
    wire::encode_message(message)
        .expect("configuration and packing bound every field and every length of what we send")
        .freeze()
}

fn family_of_prefixes(prefixes: &[AnycastPrefix]) -> Family {
    debug_assert!(prefixes.windows(2).all(|pair| pair[0].family() == pair[1].family()));
    prefixes.first().map_or(Family::Ipv4, |prefix| prefix.family())
}

fn body_entries(prefixes: &[AnycastPrefix]) -> Vec<Ipv4NlriEntry> {
    let networks = prefixes.iter().filter_map(|prefix| match prefix.network() {
        IpNetwork::V4(network) => Some(network),
        IpNetwork::V6(_) => None,
    });
    networks
        .map(|network| Ipv4NlriEntry {
            path_id: 0,
            prefix: wire::nlri::Ipv4Prefix::new(network.network(), network.prefix()),
        })
        .collect()
}

fn mp_entries(prefixes: &[AnycastPrefix]) -> Vec<NlriEntry> {
    let networks = prefixes.iter().filter_map(|prefix| match prefix.network() {
        IpNetwork::V6(network) => Some(network),
        IpNetwork::V4(_) => None,
    });
    networks
        .map(|network| NlriEntry {
            path_id: 0,
            prefix: Prefix::V6(wire::nlri::Ipv6Prefix::new(network.network(), network.prefix())),
        })
        .collect()
}

fn family_of(afi: Afi) -> Option<Family> {
    match afi {
        Afi::Ipv4 => Some(Family::Ipv4),
        Afi::Ipv6 => Some(Family::Ipv6),
        _ => None,
    }
}

fn v4(prefix: wire::nlri::Ipv4Prefix) -> IpNetwork {
    network(Prefix::V4(prefix))
}

fn network(prefix: Prefix) -> IpNetwork {
    let whole = "the codec bounds prefix lengths";
    match prefix {
        Prefix::V4(p) => IpNetwork::V4(Ipv4Network::new(p.addr, p.len).expect(whole)),
        Prefix::V6(p) => IpNetwork::V6(Ipv6Network::new(p.addr, p.len).expect(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> AnycastPrefix {
        AnycastPrefix::new(text.parse().unwrap()).unwrap()
    }

    fn parse(octets: &[u8]) -> Routes {
        let mut decoder = Decoder::default();
        decoder.push(octets);
        match decoder.poll().unwrap().unwrap() {
            Message::Update(update) => update.parse(true, false).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn attributes(next_hop: &str) -> PathAttributes {
        PathAttributes {
            next_hop: next_hop.parse().unwrap(),
            as_path: vec![4_200_000_001; 3],
            local_pref: None,
            med: Some(10),
            communities: vec![Community::GRACEFUL_SHUTDOWN],
            large_communities: vec![LargeCommunity(1, 2, 3)],
        }
    }

    #[test]
    fn what_is_announced_and_withdrawn_comes_back() {
        for (text, next_hop) in [("198.51.100.0/24", "192.0.2.1"), ("2001:db8:1::/48", "2001:db8::1")] {
            let routes = parse(&announce(&[prefix(text)], &attributes(next_hop), true));
            assert_eq!(routes.announced, vec![text.parse::<IpNetwork>().unwrap()]);
            assert_eq!(routes.treated_as_withdraw, None);
            let routes = parse(&withdraw(&[prefix(text)]));
            assert_eq!(routes.withdrawn, vec![text.parse::<IpNetwork>().unwrap()]);
        }
    }

    #[test]
    fn a_route_without_its_mandatory_attributes_counts_as_withdrawn() {
        // Withdrawn length 0, attributes length 0, then 198.51.100.0/24 (RFC 7606 §3 d).
        let mut octets = vec![0xFF; 16];
        octets.extend([0, 27, 2, 0, 0, 0, 0, 24, 198, 51, 100]);
        let routes = parse(&octets);
        assert!(routes.announced.is_empty());
        assert_eq!(routes.withdrawn.len(), 1);
        assert!(routes.treated_as_withdraw.is_some());
    }

    #[test]
    fn broken_frames_name_their_notification() {
        let mut wrong_marker = vec![0xFF; 16];
        wrong_marker[3] = 0;
        wrong_marker.extend([0, 19, 4]);
        let table: [(&[u8], (u8, u8)); 4] = [
            (&wrong_marker, (1, 1)),
            (&[&[0xFF; 16][..], &[0, 18, 4]].concat(), (1, 2)),
            (&[&[0xFF; 16][..], &[0x10, 1, 2]].concat(), (1, 2)),
            (&[&[0xFF; 16][..], &[0, 19, 9]].concat(), (1, 3)),
        ];
        for (octets, (code, subcode)) in table {
            let mut decoder = Decoder::default();
            decoder.push(octets);
            let notification = decoder.poll().unwrap_err().notification();
            assert_eq!((notification.code, notification.subcode), (code, subcode), "{octets:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..300), framed: bool) {
            let mut decoder = Decoder::default();
            if framed {
                decoder.push(&[0xFF; 16]);
                decoder.push(&(octets.len() as u16 + 18).to_be_bytes());
            }
            decoder.push(&octets);
            while let Ok(Some(message)) = decoder.poll() {
                if let Message::Update(update) = message {
                    let _ = update.parse(true, false);
                    let _ = update.parse(false, true);
                }
            }
        }
    }
}
