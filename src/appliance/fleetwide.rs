//! What the fleet adds to this POP's own configuration: peers of its backhaul, and backends of its services.
//!
//! The configuration goes first: what it says of a POP is not changed by what that POP says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::fleet::{self, Fleet};
use crate::config::Config;
use crate::config::backhaul::{Backhaul, Endpoint, Peer, key_octets};
use crate::config::services::{Backend, Service};
use crate::config::sixpn::Place;

/// What the configuration may name, too.
const MOST_PEERS: usize = 1_024;
const MOST_BACKENDS: usize = 4_096;
const MOST_BACKENDS_IN_ALL: usize = 16_384;
/// Of one POP in one service, so that none takes the room of the others.
const MOST_OF_ONE_POP: usize = 256;
/// Defaults of the configuration, for what a POP does not tell.
const KEEPALIVE: Duration = Duration::from_secs(25);
const SOFT_LIMIT: u32 = 100;
const HARD_LIMIT: u32 = 150;
const MOST_WEIGHT: u32 = 1_000;
const MOST_NAME: usize = 63;

/// The configuration with what the fleet adds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fleetwide {
    pub(super) backhaul: Option<Backhaul>,
    pub(super) services: BTreeMap<String, Service>,
    /// POPs that nobody reaches: their backends come last.
    pub(super) unreached: BTreeSet<Arc<str>>,
    /// POPs that are no peers of the backhaul though they would, and why.
    pub(super) left_out: BTreeMap<Arc<str>, String>,
}

impl Fleetwide {
    pub(super) fn of(config: &Config, fleet: &Fleet) -> Self {
        let mut left_out = BTreeMap::new();
        let backhaul = config.backhaul.as_deref().map(|own| {
            let mut backhaul = own.clone();
            if own.from_fleet {
                backhaul.peers.extend(peers(config, own, fleet, &mut left_out));
            }
            backhaul
        });
        let configured: usize = config.services.values().map(|service| service.backends.len()).sum();
        let mut left = MOST_BACKENDS_IN_ALL.saturating_sub(configured);
        let services = config.services.iter().map(|(name, own)| {
            let mut service = own.clone();
            if let (true, Some(backhaul)) = (own.from_fleet, &backhaul) {
                let room = MOST_BACKENDS.saturating_sub(own.backends.len()).min(left);
                service.backends.extend(backends(name, backhaul, fleet).take(room));
                left -= service.backends.len() - own.backends.len();
            }
            (name.clone(), service)
        });
        let unreached = fleet.pops.iter().filter(|(_, member)| !member.reached);
        Self {
            services: services.collect(),
            unreached: unreached.map(|(name, _)| Arc::clone(name)).collect(),
            backhaul,
            left_out,
        }
    }
}

fn peers(
    config: &Config,
    own: &Backhaul,
    fleet: &Fleet,
    left_out: &mut BTreeMap<Arc<str>, String>,
) -> Vec<Peer> {
    let mut places: BTreeMap<Place, String> =
        own.peers.iter().map(|peer| (peer.place, peer.pop.clone())).collect();
    places.insert(own.place, config.pop.id.clone());
    let keys = own.peers.iter().flat_map(|peer| [Some(peer.public_key), peer.next_public_key]);
    let mut keys: BTreeSet<[u8; 32]> = keys.flatten().collect();
    let mut peers = Vec::new();
    for (name, member) in &fleet.pops {
        let configured = **name == *config.pop.id || own.peer(name).is_some();
        let Some(pop) = member.pop.as_deref().filter(|_| !configured) else { continue };
        let Some(told) = &pop.backhaul else { continue };
        match peer(config, own, name, pop, told) {
            Ok(peer) => {
                let news: BTreeSet<_> =
                    [Some(peer.public_key), peer.next_public_key].into_iter().flatten().collect();
                if let Some(other) = places.get(&peer.place) {
                    left_out
                        .insert(Arc::clone(name), format!("{other} has the place {} already", peer.place));
                } else if !news.is_disjoint(&keys) {
                    left_out.insert(Arc::clone(name), "another POP has its public key already".to_owned());
                } else if own.peers.len() + peers.len() < MOST_PEERS {
                    places.insert(peer.place, peer.pop.clone());
                    keys.extend(news);
                    peers.push(peer);
                }
            }
            Err(why) => {
                left_out.insert(Arc::clone(name), why);
            }
        }
    }
    peers
}

fn peer(
    config: &Config,
    own: &Backhaul,
    name: &str,
    pop: &fleet::Pop,
    told: &fleet::Backhaul,
) -> Result<Peer, String> {
    if told.fleet != own.fleet.to_string() {
        return Err(format!("its 6PN is {} and ours {}", told.fleet, own.fleet));
    }
    let place = Place::from_number(told.place).filter(|place| place.region.number() != 0);
    let key = |text: &str| key_octets(text).filter(|key| *key != [0; 32]);
    let public_key = key(&told.public_key).ok_or("its public key is none")?;
    Ok(Peer {
        pop: name.to_owned(),
        region: pop.region.clone(),
        place: place.ok_or_else(|| format!("{} is no place in the 6PN", told.place))?,
        public_key,
        next_public_key: told.next_public_key.as_deref().and_then(key).filter(|next| *next != public_key),
        preshared: None,
        endpoints: endpoint(config, own, name, pop, told.listen).into_iter().collect(),
        ingress: told.ingress.unwrap_or_default(),
        keepalive: Some(KEEPALIVE),
        allow: Vec::new(),
    })
}

/// Where it is reached outside: where its replication is. None: it calls us.
fn endpoint(config: &Config, own: &Backhaul, name: &str, pop: &fleet::Pop, listen: u16) -> Option<Endpoint> {
    if listen == 0 {
        return None;
    }
    let known = config.replication.iter().flat_map(|replication| &replication.peers);
    let known = known.filter(|peer| peer.pop == name).find_map(|peer| peer.address.as_ref());
    match (pop.replication, known) {
        (Some(at), _) if is_outside(at.ip(), own) => {
            Some(Endpoint::Address(SocketAddr::new(at.ip(), listen)))
        }
        (_, Some(Endpoint::Address(at))) => Some(Endpoint::Address(SocketAddr::new(at.ip(), listen))),
        (_, Some(Endpoint::Name(host, _))) => Some(Endpoint::Name(host.clone(), listen)),
        _ => None,
    }
}

fn is_outside(address: IpAddr, own: &Backhaul) -> bool {
    let inside = match address {
        IpAddr::V4(address) => address.is_broadcast() || address.is_link_local(),
        IpAddr::V6(address) => own.fleet.place(address).is_some() || address.is_unicast_link_local(),
    };
    !inside && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// What other POPs have in their service of this name.
fn backends<'f>(
    service: &'f str,
    backhaul: &'f Backhaul,
    fleet: &'f Fleet,
) -> impl Iterator<Item = Backend> + 'f {
    let peers = backhaul.peers.iter().filter(|peer| peer.ingress != 0);
    peers.filter_map(|peer| Some((peer, fleet.pops.get(peer.pop.as_str())?))).flat_map(
        move |(peer, member)| {
            let theirs = member.backends.iter().filter(move |((name, _), _)| **name == *service);
            theirs.filter(|((_, id), _)| is_id(id)).take(MOST_OF_ONE_POP).map(move |((_, id), told)| {
                Backend {
                    id: format!("{id}@{}", peer.pop),
                    address: backhaul.fleet.node(peer.place).into(),
                    port: peer.ingress,
                    pop: Some(peer.pop.clone()),
                    via_ingress: true,
                    region: peer.region.clone(),
                    weight: told.weight.clamp(1, MOST_WEIGHT),
                    soft_limit: SOFT_LIMIT,
                    hard_limit: HARD_LIMIT,
                    country: told.country.clone().filter(|code| is_country(code)),
                    drain: false,
                }
            })
        },
    )
}

/// As the configuration takes it.
fn is_id(id: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    (1..=MOST_NAME).contains(&id.len()) && id.bytes().all(fits)
}

fn is_country(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|octet| octet.is_ascii_lowercase())
}

#[cfg(test)]
mod tests;
