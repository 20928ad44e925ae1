//! Reads where a backend is: here, inside the backhaul, or behind another POP's ingress.

use std::net::{IpAddr, Ipv6Addr};

use super::{Elsewhere, Here};
use crate::config::backhaul::Peer;
use crate::config::decode::backhaul;
use crate::config::read::{Fields, Letters, Spot, meant};
use crate::config::sixpn::Fleet;

/// Where a backend is reached.
pub(super) struct At {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) pop: Option<String>,
    pub(super) via_ingress: bool,
    /// That of its POP.
    pub(super) region: String,
}

pub(super) fn decode(fields: &mut Fields<'_>, here: &Here<'_>) -> Option<At> {
    match fields.get("pop") {
        Some(spot) => away(fields, &spot, here),
        None => at_home(fields, here),
    }
}

fn at_home(fields: &mut Fields<'_>, here: &Here<'_>) -> Option<At> {
    let address_at = fields.need("address");
    let address = address_at.as_ref().and_then(unicast);
    let port = fields.need("port").and_then(|spot| spot.number(1..=65535));
    if let (Some(spot), Some(IpAddr::V6(address)), Elsewhere::Peers(read)) =
        (&address_at, address, &here.elsewhere)
    {
        ours(spot, address, port, read);
    }
    let region = here.pop.map_or_else(String::new, |pop| pop.region.clone());
    Some(At { address: address?, port: port?, pop: None, via_ingress: false, region })
}

/// An address inside the backhaul without `pop` must be in our own /60.
fn ours(spot: &Spot<'_>, address: Ipv6Addr, port: Option<u16>, read: &backhaul::Read<'_>) {
    let Some((fleet, own)) = read.fleet.zip(read.place) else { return };
    match fleet.place(address) {
        Some(place)
            if place == own && address == fleet.node(own) && port.is_some() && port == read.ingress =>
        {
            spot.refuse(
                "that is our own ingress: connections would come round again",
                "write the address that the backend listens on",
            );
        }
        Some(place) if place != own => {
            let owner = read.peers.values().flatten().find(|peer| peer.place == place);
            let hint = match owner {
                Some(peer) => format!("add `pop: {}`", peer.pop),
                None => "no peer has that place: add it to `backhaul.peers`, and `pop: …` here".to_owned(),
            };
            spot.refuse(format!("{address} belongs to another POP, at {place}"), hint);
        }
        _ => {}
    }
}

fn away(fields: &mut Fields<'_>, spot: &Spot<'_>, here: &Here<'_>) -> Option<At> {
    let name = spot.name(Letters::Label, 1..=32);
    let address_at = fields.get("address");
    let port_at = match address_at {
        Some(_) => fields.need("port"),
        None => fields.get("port"),
    };
    let address = address_at.as_ref().and_then(unicast);
    let port = port_at.as_ref().and_then(|spot| spot.number(1..=65535));
    let name = name?;
    if let (None, Some(spot)) = (&address_at, &port_at) {
        spot.refuse(
            "`port` without `address`",
            format!("leave it out: the ingress of `{name}` knows it; or add the backend's `address` inside the backhaul"),
        );
    }
    let known = peer(spot, &name, here);
    if let (Some(spot), Some(address), Some((fleet, peer))) = (&address_at, address, known) {
        belongs(spot, address, port, fleet, peer);
    }
    let region = known.map(|(_, peer)| peer.region.clone()).unwrap_or_default();
    let pop = Some(name);
    match address_at {
        Some(_) => Some(At { address: address?, port: port?, pop, via_ingress: false, region }),
        None => {
            // Unknown only after a problem: the weight of this backend still counts for what is judged next.
            let node = known.map_or(Ipv6Addr::UNSPECIFIED, |(fleet, peer)| fleet.node(peer.place));
            let port = known.map_or(1, |(_, peer)| peer.ingress);
            Some(At { address: node.into(), port, pop, via_ingress: true, region })
        }
    }
}

/// The peer that a backend names; None after a problem.
fn peer<'r>(spot: &Spot<'_>, name: &str, here: &Here<'r>) -> Option<(Fleet, &'r Peer)> {
    if here.pop.is_some_and(|pop| pop.id == name) {
        spot.refuse(format!("`{name}` is this POP itself"), "leave `pop` out");
        return None;
    }
    let read = match &here.elsewhere {
        Elsewhere::Nowhere => {
            spot.refuse(
                format!("no way to `{name}`: there is no `backhaul`"),
                "add the section, with its peers",
            );
            return None;
        }
        Elsewhere::Unread => return None,
        Elsewhere::Peers(read) => *read,
    };
    match read.peers.get(name) {
        Some(peer) => read.fleet.zip(peer.as_ref()),
        None => {
            if !read.nameless {
                let known: Vec<&str> = read.peers.keys().map(String::as_str).collect();
                let hint = if known.is_empty() {
                    "add it to `backhaul.peers`".to_owned()
                } else {
                    meant(name, &known)
                };
                spot.refuse(format!("`{name}` is no peer of the backhaul"), hint);
            }
            None
        }
    }
}

fn belongs(spot: &Spot<'_>, address: IpAddr, port: Option<u16>, fleet: Fleet, peer: &Peer) {
    let pop = &peer.pop;
    let subnet = fleet.subnet(peer.place);
    let through =
        format!("an address inside {subnet}; or leave `address` and `port` out, to go through its ingress");
    match address {
        IpAddr::V6(v6) if subnet.contains(v6) => {
            if v6 == fleet.node(peer.place) && port == Some(peer.ingress) {
                spot.refuse(format!("that is the ingress of `{pop}`"), "leave `address` and `port` out");
            }
        }
        IpAddr::V6(v6) if fleet.contains(v6) => {
            spot.refuse(format!("{v6} is inside the backhaul, but not at `{pop}`"), through);
        }
        _ => spot.refuse(
            format!("{address} is outside the backhaul: there is no way to it through `{pop}`"),
            through,
        ),
    }
}

fn unicast(spot: &Spot<'_>) -> Option<IpAddr> {
    let address = spot.address()?;
    if address.is_unspecified() || address.is_multicast() {
        spot.refuse(
            format!("no backend can be at {address}"),
            "write the unicast address that the backend listens on",
        );
        return None;
    }
    Some(address)
}
