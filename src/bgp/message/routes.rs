//! What a received UPDATE says, with the revised error handling of RFC 7606.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use rustbgpd_wire as wire;
use wire::Safi;
use wire::attribute::PathAttribute;
use wire::nlri::Prefix;
use wire::notification::{NotificationCode, update_subcode};
use wire::validate::{ErrorDisposition, UpdateError};

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
    /// The NOTIFICATION to send when the session must end: the routes cannot be located (RFC 7606 §3 j),
    /// or a well-known attribute is not known here (RFC 4271 §6.3).
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
        // RFC 7606 §3 h: also after another fault, since the stronger answer wins.
        let judged = wire::validate::validate_update_attributes(
            &parsed.update.attributes,
            !routes.announced.is_empty(),
            !parsed.update.announced.is_empty(),
            !internal,
        );
        if let Err(error) = judged {
            if error.disposition == ErrorDisposition::SessionReset || is_unrecognized_well_known(&error) {
                return Err(Notification { code: 3, subcode: error.subcode, data: error.data.into() });
            }
            if error.disposition == ErrorDisposition::TreatAsWithdraw {
                wrong.get_or_insert_with(|| {
                    wire::notification::description(NotificationCode::UpdateMessage, error.subcode).to_owned()
                });
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

/// RFC 4271 §6.3 ends the session here. RFC 7606 §3 c to f revise what is wrong in attributes that are
/// known by their type, so this stands; the library would take it as a withdrawal.
fn is_unrecognized_well_known(error: &UpdateError) -> bool {
    error.subcode == update_subcode::UNRECOGNIZED_WELLKNOWN
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
