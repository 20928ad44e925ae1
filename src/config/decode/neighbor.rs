//! Reads one neighbor, with the rules that hold inside it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use super::attributes;
use crate::config::bgp::{Asn, Attributes, Family, Neighbor, NextHop, Secret};
use crate::config::read::{Letters, Spot, Unique, shown};
use crate::config::secret;

/// Words of a neighbor that versions to come will take.
const LATER: [&str; 2] = ["bfd", "role"];
const FAMILIES: [(&str, Family); 2] = [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)];

/// What a neighbor must know of the speaker.
pub(super) struct Speaker<'s> {
    pub(super) asn: Option<Asn>,
    pub(super) listens: bool,
    /// Where relative paths begin.
    pub(super) base: &'s Path,
}

pub(super) fn decode(
    spot: &Spot<'_>,
    speaker: &Speaker<'_>,
    names: &mut Unique,
    sockets: &mut Unique,
) -> Option<Neighbor> {
    let mut fields = spot.fields()?;
    let name = fields.need("name").and_then(|spot| {
        let name = spot.name(Letters::Loose, 1..=63)?;
        names.claim(&spot, &name).then_some(name)
    });
    let address_at = fields.need("address");
    let address = address_at.as_ref().and_then(neighbor_address);
    let port = fields.get("port").and_then(|spot| spot.number(1..=65535)).unwrap_or(179);
    if let (Some(spot), Some(address)) = (&address_at, address) {
        sockets.claim(spot, &address.to_string());
    }
    let asn = fields.need("asn").and_then(|spot| self::asn(&spot));

    let families_at = fields.get("families");
    let families = families_at.as_ref().and_then(families);
    let source = fields.get("source").and_then(|spot| source(&spot, address));
    let passive = fields.get("passive").and_then(|spot| passive(&spot, speaker)).unwrap_or(false);

    let hint = "write the password to a file and name it with `password_file`";
    fields.never("password", "secrets never stand in the configuration", hint);
    let password = fields.get("password_file").and_then(|spot| password(&spot, speaker.base));

    let ttl_security = fields.get("ttl_security").and_then(|spot| spot.number(1..=254));
    let internal = asn.is_some() && asn == speaker.asn;
    let multihop = fields.get("multihop").and_then(|spot| {
        if internal {
            spot.refuse(
                "`multihop` towards a neighbor of our own AS",
                "leave it out: a session inside our AS may cross any number of hops",
            );
        }
        if ttl_security.is_some() {
            spot.refuse(
                "`multihop` and `ttl_security` exclude each other",
                "`ttl_security: 3` takes a neighbor up to three hops away",
            );
        }
        spot.number(2..=255)
    });
    let hold_time = fields.get("hold_time").and_then(|spot| hold_time(&spot));
    let retry = Duration::from_secs(1)..=Duration::from_secs(120);
    let connect_retry = fields.get("connect_retry").and_then(|spot| spot.duration(retry));
    let max_prefixes = fields.get("max_prefixes").and_then(|spot| spot.number(1..=u64::from(u32::MAX)));

    let next_hop_at = fields.get("next_hop");
    let next_hop = next_hop_at.as_ref().and_then(next_hop).unwrap_or_default();
    if let (Some(address), Some(families), Some(at)) = (address, &families, &families_at) {
        let unread = next_hop_at.as_ref().is_some_and(|spot| spot.is_map() && next_hop == NextHop::default());
        if !unread {
            missing_next_hop(fields.spot(), at, address, families, next_hop);
        }
    }
    let mut told = |key| fields.get(key).and_then(|spot| export(&spot, internal)).unwrap_or_default();
    let (export, degrade, drain) = (told("export"), told("degrade"), told("drain"));
    fields.close(&LATER);

    let address = address?;
    Some(Neighbor {
        name: name?,
        address,
        port,
        asn: asn?,
        families: families.unwrap_or_else(|| vec![Family::of(address)]),
        source,
        passive,
        password,
        ttl_security,
        multihop,
        hold_time: hold_time.unwrap_or(Duration::from_secs(90)),
        connect_retry: connect_retry.unwrap_or(Duration::from_secs(5)),
        max_prefixes,
        next_hop,
        export,
        degrade,
        drain,
    })
}

/// An AS number that may stand in a path.
pub(super) fn asn(spot: &Spot<'_>) -> Option<Asn> {
    if spot.text()?.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("as")) {
        spot.refuse("an AS number is written as a number", "leave `AS` away");
        return None;
    }
    let number: u32 = spot.number(0..=u64::from(u32::MAX))?;
    let reserved = match number {
        0 => "AS 0 is reserved (RFC 7607)",
        // RFC 6793 §9.
        23456 => "AS 23456 stands for AS numbers that an old speaker cannot write",
        65535 | u32::MAX => "the last AS numbers are reserved (RFC 7300)",
        _ => return Some(Asn(number)),
    };
    spot.refuse(reserved, "for private use: 64512 to 65534, or 4200000000 to 4294967294 (RFC 6996)");
    None
}

/// An address that a session can be held with. Loopback is one: labs use it.
fn neighbor_address(spot: &Spot<'_>) -> Option<IpAddr> {
    let address = spot.address()?;
    let wrong = match address {
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6 clothes",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address, which needs an interface",
        _ => return Some(address),
    };
    spot.refuse(format!("{address} is {wrong}"), "the address that the neighbor's router speaks from");
    None
}

fn families(spot: &Spot<'_>) -> Option<Vec<Family>> {
    let mut unique = Unique::default();
    let mut families = Vec::new();
    for spot in spot.filled_list(FAMILIES.len())? {
        let family = spot.choice(&FAMILIES)?;
        if unique.claim(&spot, &family.to_string()) {
            families.push(family);
        }
    }
    families.sort_unstable();
    Some(families)
}

fn source(spot: &Spot<'_>, neighbor: Option<IpAddr>) -> Option<IpAddr> {
    let source = spot.address()?;
    if source.is_unspecified() || source.is_multicast() {
        spot.refuse(format!("connections cannot start from {source}"), "an address of this machine");
    } else if neighbor.is_some_and(|neighbor| Family::of(neighbor) != Family::of(source)) {
        let hint = "source and neighbor are both IPv4 or both IPv6";
        spot.refuse(format!("{source} is not of the family of `address`"), hint);
    }
    Some(source)
}

fn passive(spot: &Spot<'_>, speaker: &Speaker<'_>) -> Option<bool> {
    let passive = spot.switch()?;
    if passive && !speaker.listens {
        spot.refuse(
            "a passive neighbor, but `bgp.listen` is empty: no session could begin",
            "add an address to `bgp.listen`",
        );
    }
    Some(passive)
}

fn password(spot: &Spot<'_>, base: &Path) -> Option<Secret> {
    let path = base.join(spot.line(4096)?);
    match secret::read(&path) {
        Ok(secret) => Some(secret),
        Err(refusal) => {
            spot.refuse(refusal.message, refusal.hint);
            None
        }
    }
}

/// RFC 4271 §4.2: none at all, or at least three seconds, in whole seconds.
fn hold_time(spot: &Spot<'_>) -> Option<Duration> {
    let hold_time = spot.duration(Duration::ZERO..=Duration::from_secs(65535))?;
    let zero_or_three = hold_time.is_zero() || hold_time >= Duration::from_secs(3);
    if !zero_or_three || hold_time.subsec_nanos() > 0 {
        spot.refuse(format!("{hold_time:?} cannot be proposed"), "`0s` for none, or whole seconds from `3s`");
        return None;
    }
    Some(hold_time)
}

/// `self`, or addresses by family.
fn next_hop(spot: &Spot<'_>) -> Option<NextHop> {
    if !spot.is_map() {
        let word = spot.text()?;
        if word != "self" {
            let hint = "`self`, or `{ ipv4: 192.0.2.10, ipv6: 2001:db8::10 }`";
            spot.refuse(format!("expected `self` or addresses, found {}", shown(word)), hint);
        }
        return None;
    }
    let mut fields = spot.fields()?;
    let ipv4 = fields.get("ipv4").and_then(|spot| {
        let hop = spot.ipv4()?;
        usable(&spot, hop.into(), hop.is_broadcast()).then_some(hop)
    });
    let ipv6 = fields.get("ipv6").and_then(|spot| {
        let hop: Ipv6Addr = spot.ipv6()?;
        usable(&spot, hop.into(), hop.to_ipv4_mapped().is_some()).then_some(hop)
    });
    fields.close(&[]);
    Some(NextHop { ipv4, ipv6 })
}

fn usable(spot: &Spot<'_>, hop: IpAddr, wrong: bool) -> bool {
    let wrong = wrong || hop.is_unspecified() || hop.is_multicast();
    if wrong {
        spot.refuse(
            format!("{hop} cannot be a next hop"),
            "an address of this machine that the neighbor reaches",
        );
    }
    !wrong
}

/// Routes of the other family than the session's have no next hop of their own: our address of the
/// session is of the wrong family.
fn missing_next_hop(spot: &Spot<'_>, at: &Spot<'_>, address: IpAddr, families: &[Family], next_hop: NextHop) {
    for &family in families {
        let given = match family {
            Family::Ipv4 => next_hop.ipv4.is_some(),
            Family::Ipv6 => next_hop.ipv6.is_some(),
        };
        let session = Family::of(address);
        if family != session && !given {
            let path = format!("{}.next_hop.{family}", spot.path());
            let message = format!("{family} routes over an {session} session need a next hop");
            let hint = format!("add `next_hop: {{ {family}: ADDRESS }}` with an address of this machine");
            spot.sheet().add(&path, at.at(), message, hint);
        }
    }
}

fn export(spot: &Spot<'_>, internal: bool) -> Option<Attributes> {
    let export = attributes::decode(spot)?;
    if internal && export.prepend > 0 {
        // RFC 4271 §5.1.2: a speaker does not touch the path towards its own AS.
        spot.refuse("`prepend` towards a neighbor of our own AS", "use `med` or a community there");
    }
    Some(export)
}
