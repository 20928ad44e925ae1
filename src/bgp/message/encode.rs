//! Messages to octets.

use std::net::IpAddr;

use bytes::Bytes;
use ipnetwork::IpNetwork;
use rustbgpd_wire as wire;
use wire::attribute::{AsPath, AsPathSegment, MpReachNlri, MpUnreachNlri, Origin, PathAttribute};
use wire::nlri::{Ipv4NlriEntry, NlriEntry, Prefix};
use wire::notification::NotificationCode;
use wire::{Afi, Safi};

use super::{MAX_MESSAGE, Open};
use crate::bgp::notification::Notification;
use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::{Community, Family, LargeCommunity};

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
