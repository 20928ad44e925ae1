//! What a received UPDATE says, with the revised error handling of RFC 7606.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use rustbgpd_wire as wire;
use wire::Safi;
use wire::attribute::PathAttribute;
use wire::nlri::Prefix;
use wire::notification::NotificationCode;
use wire::validate::ErrorDisposition;

use super::Malformed;
use crate::bgp::notification::Notification;

/// An UPDATE whose three parts are framed but not yet parsed.
#[derive(Debug, Clone)]
pub struct Update(pub(super) wire::UpdateMessage);

/// What an UPDATE said, after RFC 7606: the routes to count, and what was wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    pub announced: Vec<IpNetwork>,
    pub withdrawn: Vec<IpNetwork>,
    /// Why the announced routes count as withdrawn (they were moved there), or None.
    pub treated_as_withdraw: Option<String>,
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
