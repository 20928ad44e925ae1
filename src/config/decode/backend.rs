//! Reads the backends of a service.

use std::net::IpAddr;

use super::pop;
use crate::config::backhaul::{Backhaul, Peer};
use crate::config::read::{Fields, Letters, Spot, Unique, meant, shown};
use crate::config::services::{Backend, Remote};

const MOST_BACKENDS: usize = 4096;
const SOFT_LIMIT: u32 = 100;
const HARD_LIMIT: u32 = 150;

/// The POPs that backends may be at.
#[derive(Clone, Copy)]
pub(super) struct Peers<'p> {
    pub(super) read: Option<&'p Backhaul>,
    /// There is a section, even if it could not be read.
    pub(super) written: bool,
}

/// The backends of a service; `region` is that of those which name none.
pub(super) fn list(spot: &Spot<'_>, region: &str, peers: Peers<'_>) -> Option<Vec<Backend>> {
    let mut ids = Unique::default();
    let list = spot.filled_list(MOST_BACKENDS)?;
    Some(list.iter().filter_map(|spot| backend(spot, region, peers, &mut ids)).collect())
}

fn backend(spot: &Spot<'_>, region: &str, peers: Peers<'_>, ids: &mut Unique) -> Option<Backend> {
    let mut fields = spot.fields()?;
    let id = fields.need("id").and_then(|spot| {
        let id = spot.name(Letters::Loose, 1..=63)?;
        ids.claim(&spot, &id).then_some(id)
    });
    let pop_at = fields.get("pop");
    let peer = pop_at.as_ref().and_then(|spot| peer(spot, peers));
    let (address, port, ingress) = match (&pop_at, fields.get("address")) {
        // Through the ingress of its POP.
        (Some(_), None) => {
            let hint = "leave it away: the POP takes connections to its backend of this id; or add its `address` in the 6PN";
            if let Some(spot) = fields.get("port") {
                spot.refuse("a port without an address", hint);
            }
            let place = peer.zip(peers.read).map(|(peer, ours)| ours.fleet.node(peer.place).into());
            (place, peer.map(|peer| peer.ingress), true)
        }
        (_, None) => (fields.need("address").and(None), fields.need("port").and(None), false),
        (_, Some(spot)) => {
            let port = fields.need("port").and_then(|spot| spot.number(1..=65535));
            (address(&spot, peer, peers), port, false)
        }
    };
    let region = match fields.get("region") {
        Some(spot) => pop::region(&spot),
        None => Some(peer.map_or_else(|| region.to_owned(), |peer| peer.region.clone())),
    };
    let weight = fields.get("weight").and_then(|spot| spot.number(1..=1000)).unwrap_or(2);
    let (soft_limit, hard_limit) = limits(&mut fields);
    let country = fields.get("country").and_then(|spot| country(&spot));
    let drain = fields.get("drain").and_then(|spot| spot.switch()).unwrap_or(false);
    fields.close(&[]);
    Some(Backend {
        id: id?,
        address: address?,
        port: port?,
        region: region?,
        weight,
        soft_limit,
        hard_limit,
        country,
        drain,
        remote: match pop_at {
            Some(_) => Some(Remote { pop: peer?.pop.clone(), ingress }),
            None => None,
        },
    })
}

/// The peer that a backend is at.
fn peer<'p>(spot: &Spot<'_>, peers: Peers<'p>) -> Option<&'p Peer> {
    let pop = spot.text()?;
    let Some(ours) = peers.read else {
        if !peers.written {
            let hint = "add the section `backhaul` with this POP as a peer, or leave `pop` away for a backend that is here";
            spot.refuse("there is no backhaul to another POP", hint);
        }
        return None;
    };
    let found = ours.peer(pop);
    if found.is_none() {
        let known: Vec<_> = ours.peers.iter().map(|peer| peer.pop.as_str()).collect();
        spot.refuse(format!("{} is no peer of `backhaul`", shown(pop)), meant(pop, &known));
    }
    found
}

fn address(spot: &Spot<'_>, peer: Option<&Peer>, peers: Peers<'_>) -> Option<IpAddr> {
    let address = spot.address()?;
    if address.is_unspecified() || address.is_multicast() {
        spot.refuse(
            format!("no backend can be at {address}"),
            "write the unicast address that the backend listens on",
        );
        return None;
    }
    let Some(ours) = peers.read else { return Some(address) };
    let inside = match address {
        IpAddr::V6(address) => Some(address).filter(|address| ours.fleet.contains(*address)),
        IpAddr::V4(_) => None,
    };
    let at = |place| inside.is_some_and(|address| ours.fleet.subnet(place).contains(address));
    match peer {
        Some(peer) if !at(peer.place) => {
            let hint = format!(
                "an address in {}, or none: then its POP takes the connections",
                ours.fleet.subnet(peer.place)
            );
            spot.refuse(format!("{address} is not at {}", peer.pop), hint);
            None
        }
        None if inside.is_some() && !at(ours.place) => {
            let owner = ours.peers.iter().find(|peer| at(peer.place));
            let hint = owner.map_or("add that POP as a peer, and name it with `pop`".to_owned(), |owner| {
                format!("add `pop: {}`", owner.pop)
            });
            spot.refuse(format!("{address} is at another POP"), hint);
            None
        }
        _ => Some(address),
    }
}

/// The soft and the hard limit. Whoever writes one of them does not have to know the default of the other.
fn limits(fields: &mut Fields<'_>) -> (u32, u32) {
    let soft = fields.get("soft_limit").and_then(|spot| spot.number(1..=1_000_000));
    let hard_at = fields.get("hard_limit");
    let hard = hard_at.as_ref().and_then(|spot| spot.number(0..=1_000_000));
    match (soft, hard) {
        (Some(soft), Some(hard)) => {
            if let Some(spot) = hard_at.filter(|_| 0 < hard && hard < soft) {
                spot.refuse(
                    format!("`hard_limit` is {hard}, under `soft_limit`, which is {soft}"),
                    "at least `soft_limit`; 0 for no limit",
                );
            }
            (soft, hard)
        }
        (Some(soft), None) => (soft, soft.max(HARD_LIMIT)),
        (None, Some(0) | None) => (SOFT_LIMIT, hard.unwrap_or(HARD_LIMIT)),
        (None, Some(hard)) => (SOFT_LIMIT.min(hard), hard),
    }
}

fn country(spot: &Spot<'_>) -> Option<String> {
    let text = spot.text()?;
    if text.len() != 2 || !text.bytes().all(|it| it.is_ascii_lowercase()) {
        let hint = match text.to_ascii_lowercase() {
            code if code.len() == 2 && code.bytes().all(|it| it.is_ascii_lowercase()) => {
                format!("write `{code}`")
            }
            _ => "two letters as in ISO 3166-1: `br`, `de`".to_owned(),
        };
        spot.refuse(format!("{} is no country", shown(text)), hint);
        return None;
    }
    Some(text.to_owned())
}
