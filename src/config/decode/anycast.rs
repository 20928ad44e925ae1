//! Reads the `anycast` section: prefixes, and what must hold between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{attributes, leave};
use crate::config::anycast::{Anycast, AnycastPrefix, Damping, Intent};
use crate::config::bgp::Family;
use crate::config::read::{Spot, Unique, meant, shown};
use crate::config::sixpn::Fleet;

const MOST_PREFIXES: usize = 1024;
const MOST_ADDRESSES: usize = 256;
const MOST_SERVICES: usize = 256;
const INTENTS: [(&str, Intent); 2] = [("up", Intent::Up), ("down", Intent::Down)];

/// `services` are the names that exist, `carried` the families of the neighbors; None if unknown. `fleet` is what the
/// backhaul has.
pub(super) fn decode(
    spot: &Spot<'_>,
    services: Option<&Unique>,
    carried: Option<&BTreeSet<Family>>,
    fleet: Option<Fleet>,
) -> Option<BTreeMap<AnycastPrefix, Anycast>> {
    let mut known: Vec<AnycastPrefix> = Vec::new();
    let mut anycast = BTreeMap::new();
    for spot in spot.filled_list(MOST_PREFIXES)? {
        if let Some(one) = decode_one(&spot, services, carried, fleet, &mut known) {
            anycast.insert(one.prefix, one);
        }
    }
    Some(anycast)
}

fn decode_one(
    spot: &Spot<'_>,
    services: Option<&Unique>,
    carried: Option<&BTreeSet<Family>>,
    fleet: Option<Fleet>,
    known: &mut Vec<AnycastPrefix>,
) -> Option<Anycast> {
    let mut fields = spot.fields()?;
    let prefix = fields.need("prefix").and_then(|spot| {
        let prefix = prefix(&spot)?;
        if carried.is_some_and(|carried| !carried.contains(&prefix.family())) {
            let family = prefix.family();
            spot.refuse(
                format!("{prefix} would never be announced: no neighbor carries {family}"),
                format!("add `{family}` to the `families` of a neighbor"),
            );
        }
        inside(&spot, prefix, fleet);
        apart(&spot, prefix, known).then_some(prefix)
    });
    let addresses = fields.get("addresses").and_then(|spot| addresses(&spot, prefix)).unwrap_or_default();
    let device = fields.get("device").and_then(|spot| device(&spot)).unwrap_or_else(|| "lo".to_owned());
    let services = fields.need("services").and_then(|spot| names(&spot, services));
    let state = fields.get("state").and_then(|spot| spot.choice(&INTENTS)).unwrap_or_default();
    let attributes = fields.get("attributes").and_then(|spot| attributes::decode(&spot)).unwrap_or_default();
    let degrade = fields.get("degrade").and_then(|spot| attributes::decode(&spot)).unwrap_or_default();
    let drain = fields.get("drain").and_then(|spot| leave::drain(&spot)).unwrap_or_default();
    let min_announcers = fields.get("min_announcers").and_then(|spot| spot.number(0..=64)).unwrap_or(1);
    let damping =
        fields.get("damping").map_or_else(|| Some(Damping::default()), |spot| leave::damping(&spot));
    fields.close(&[]);
    Some(Anycast {
        prefix: prefix?,
        addresses,
        device,
        services: services?,
        state,
        attributes,
        degrade,
        drain,
        min_announcers,
        damping,
    })
}

fn prefix(spot: &Spot<'_>) -> Option<AnycastPrefix> {
    let text = spot.text()?;
    let network = text.parse::<IpNetwork>().ok();
    let Some(network) = network.filter(|_| text.contains('/')) else {
        let hint = match network {
            Some(host) => format!("write `{host}`"),
            None => "`198.51.100.0/24` or `2001:db8:1::/48`".to_owned(),
        };
        spot.refuse(format!("expected a prefix with its length, found {}", shown(text)), hint);
        return None;
    };
    let first = network.network();
    if network.prefix() == 0 {
        spot.refuse(
            "a default route is no anycast prefix",
            "write the prefix that the services' addresses are in",
        );
        return None;
    }
    if first != network.ip() {
        spot.refuse(
            format!("{} has host bits", shown(text)),
            format!("write `{first}/{}`", network.prefix()),
        );
        return None;
    }
    if not_global(first) {
        spot.refuse(
            format!("{} cannot be announced", shown(text)),
            "loopback, link-local, multicast and the like stay at home",
        );
        return None;
    }
    AnycastPrefix::new(network)
}

/// Prefixes whose first address means something else than a host somewhere.
fn not_global(first: IpAddr) -> bool {
    let special = first.is_unspecified() || first.is_loopback() || first.is_multicast();
    special
        || match first {
            IpAddr::V4(first) => first.octets()[0] == 0 || first.is_link_local() || first.octets()[0] >= 240,
            IpAddr::V6(first) => first.is_unicast_link_local() || first.to_ipv4_mapped().is_some(),
        }
}

/// Refuses a prefix that holds addresses of the backhaul: they are never told to a neighbor.
fn inside(spot: &Spot<'_>, prefix: AnycastPrefix, fleet: Option<Fleet>) {
    let (IpNetwork::V6(this), Some(fleet)) = (prefix.network(), fleet) else { return };
    if this.overlaps(fleet.prefix()) {
        spot.refuse(
            format!("{prefix} overlaps {fleet}, the addresses inside the backhaul"),
            "those are never announced",
        );
    }
}

/// Refuses a prefix that lies in, or around, one that came before.
fn apart(spot: &Spot<'_>, prefix: AnycastPrefix, known: &mut Vec<AnycastPrefix>) -> bool {
    let other = known.iter().find(|other| {
        let (one, two) = (prefix.network(), other.network());
        prefix.family() == other.family() && (one.contains(two.ip()) || two.contains(one.ip()))
    });
    match other {
        Some(other) if *other == prefix => {
            spot.refuse(format!("{prefix} is here twice"), "remove one of them");
        }
        Some(other) => spot.refuse(
            format!("{prefix} overlaps {other}"),
            "anycast prefixes must not overlap: the longer one would draw the other's traffic",
        ),
        None => {
            known.push(prefix);
            return true;
        }
    }
    false
}

fn addresses(spot: &Spot<'_>, prefix: Option<AnycastPrefix>) -> Option<Vec<IpAddr>> {
    let mut unique = Unique::default();
    let mut addresses = Vec::new();
    for spot in spot.list(MOST_ADDRESSES)? {
        let Some(address) = spot.address() else { continue };
        if let Some(prefix) = prefix.filter(|prefix| !prefix.network().contains(address)) {
            let hint = match prefix.family() == Family::of(address) {
                true => "an address that is not in the prefix would not be reached",
                false => "an address of the prefix's family",
            };
            spot.refuse(format!("{address} is not in {prefix}"), hint);
        } else if unique.claim(&spot, &address.to_string()) {
            addresses.push(address);
        }
    }
    Some(addresses)
}

/// The name of a network interface.
fn device(spot: &Spot<'_>) -> Option<String> {
    // if.h: IFNAMSIZ is 16 with the final zero.
    let name = spot.line(15)?;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', ':', ' ']) {
        spot.refuse(format!("{} is no interface", shown(name)), "`ip link` lists them");
        return None;
    }
    Some(name.to_owned())
}

fn names(spot: &Spot<'_>, services: Option<&Unique>) -> Option<Vec<String>> {
    let mut unique = Unique::default();
    let mut names = Vec::new();
    for spot in spot.filled_list(MOST_SERVICES)? {
        let Some(name) = spot.text() else { continue };
        if let Some(services) = services.filter(|services| !services.contains(name)) {
            spot.refuse(format!("no service is named {}", shown(name)), meant(name, &services.values()));
        } else if unique.claim(&spot, name) {
            names.push(name.to_owned());
        }
    }
    Some(names)
}
