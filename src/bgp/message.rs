//! The codec's facade: octets to messages and back (RFC 4271 §4, RFC 4760, RFC 6793).
//!
//! `rustbgpd-wire` is named here and in [`super::fsm`] only, so that replacing it touches two files.

mod encode;
mod routes;

use std::net::Ipv4Addr;

use bytes::BytesMut;
use rustbgpd_wire as wire;
use wire::{Afi, Safi};

pub use self::encode::{PathAttributes, announce, keepalive, notification, open, withdraw};
pub use self::routes::{Routes, Update};
use super::notification::Notification;
use crate::config::bgp::{Asn, Family};

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
        if !fits_its_type(self.0[18], length) {
            return Err(Malformed(wire::DecodeError::InvalidLength { length }));
        }
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

/// Whether a length is possible for a type of message at all (RFC 4271 §6.1).
fn fits_its_type(kind: u8, length: u16) -> bool {
    match kind {
        1 => length >= 29,
        2 => length >= 23,
        3 => length >= 21,
        4 => length == 19,
        _ => true,
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

fn family_of(afi: Afi) -> Option<Family> {
    match afi {
        Afi::Ipv4 => Some(Family::Ipv4),
        Afi::Ipv6 => Some(Family::Ipv6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ipnetwork::IpNetwork;

    use super::*;
    use crate::config::anycast::AnycastPrefix;
    use crate::config::bgp::{Community, LargeCommunity};

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
    fn an_unrecognized_well_known_attribute_ends_the_session_whatever_else_is_wrong() {
        let (origin, path) = (&[0x40, 1, 1, 0][..], &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0x9a][..]);
        let next_hop = &[0x40, 3, 4, 10, 0, 1, 1][..];
        let unknown = &[0x40, 77, 1, 0][..];
        let short_med = &[0x80, 4, 3, 0, 0, 0][..];
        for attributes in [
            [origin, path, next_hop, unknown].concat(),
            // RFC 7606 §3 h: the strongest answer of all faults, in either order.
            [origin, path, next_hop, short_med, unknown].concat(),
            [unknown, path].concat(),
        ] {
            let length = |count: usize| (count as u16).to_be_bytes();
            let mut octets = vec![0xFF; 16];
            octets.extend(length(27 + attributes.len()));
            octets.extend([2, 0, 0]);
            octets.extend(length(attributes.len()));
            octets.extend(&attributes);
            octets.extend([24, 203, 0, 113]);
            let mut decoder = Decoder::default();
            decoder.push(&octets);
            let Ok(Some(Message::Update(update))) = decoder.poll() else { panic!("{octets:?}") };
            let notification = update.parse(true, false).unwrap_err();
            assert_eq!((notification.code, notification.subcode), (3, 2), "{attributes:?}");
            assert_eq!(notification.data, unknown);
        }
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
