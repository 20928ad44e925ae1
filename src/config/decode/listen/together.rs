//! What must hold between all listeners of the file, and between them and the rest of the process.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::Placed;
use crate::config::anycast::{Anycast, AnycastPrefix};
use crate::config::bgp::Family;
use crate::config::listen::{Listen, Protocol, Security, ServerName};
use crate::config::read::Spot;

const MOST_PORTS_IN_ALL: usize = 65_536;

/// What a name leads by: an address and protocol, and the name; None is whatever nobody claims.
type Way<'p> = (IpAddr, Protocol, Option<&'p ServerName>);

/// `anycast` are the prefixes, None if some could not be read; `taken` what else this process listens on, with its
/// word.
pub(in crate::config::decode) fn together(
    services: &Spot<'_>,
    placed: &[Placed<'_>],
    anycast: Option<&BTreeMap<AnycastPrefix, Anycast>>,
    taken: &[(SocketAddr, Protocol, &str)],
) {
    let ports: usize = placed.iter().map(|it| it.listen.ports.len()).sum();
    if ports > MOST_PORTS_IN_ALL {
        let message =
            format!("{ports} addresses and ports in all, but at most {MOST_PORTS_IN_ALL} are taken");
        services.refuse(message, "fewer listeners, or shorter ranges of ports");
        return;
    }
    let mut first = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (index, this) in placed.iter().enumerate() {
        reachable(this, anycast);
        free(this, taken);
        if shared(this, index, placed, &mut first) {
            apart(this, index, placed, &mut names);
        }
    }
}

/// An address of one of our prefixes is bound only if the prefix says so.
fn reachable(this: &Placed<'_>, anycast: Option<&BTreeMap<AnycastPrefix, Anycast>>) {
    let address = this.listen.address;
    let mut prefixes = anycast.into_iter().flat_map(BTreeMap::values);
    let Some(anycast) = prefixes.find(|it| it.prefix.network().contains(address)) else { return };
    if !anycast.addresses.contains(&address) {
        this.address_at.refuse(
            format!(
                "{address} is in {}, but not one of its addresses: it would never be bound",
                anycast.prefix
            ),
            format!("add it to the `addresses` of {}", anycast.prefix),
        );
    }
}

fn free(this: &Placed<'_>, taken: &[(SocketAddr, Protocol, &str)]) {
    let Listen { address, ports, protocol, .. } = &this.listen;
    let covers = |it: IpAddr| {
        let wide = it.is_unspecified() || address.is_unspecified();
        it == *address || (wide && Family::of(it) == Family::of(*address))
    };
    let mut taken = taken.iter().filter(|(_, its, _)| its == protocol);
    if let Some((socket, _, word)) = taken.find(|(it, ..)| ports.contains(&it.port()) && covers(it.ip())) {
        this.address_at.refuse(
            format!("port {} at {address} is taken by `{word}`", socket.port()),
            format!("another port here, or for `{word}`"),
        );
    }
}

/// Looks who was first at each address and port. Says whether this one may be there too, as far as that does not
/// depend on names.
fn shared(
    this: &Placed<'_>,
    index: usize,
    placed: &[Placed<'_>],
    first: &mut BTreeMap<(IpAddr, Protocol, u16), usize>,
) -> bool {
    let Listen { address, ports, protocol, security: _, proxy_from: _, limits: _, socket: _ } = &this.listen;
    let mut met = None;
    for port in ports.clone() {
        let holder = *first.entry((*address, *protocol, port)).or_insert(index);
        if holder != index && met.is_none() {
            met = Some((holder, port));
        }
    }
    let Some((holder, port)) = met else { return true };
    let other = &placed[holder];
    let line = other.spot.at().line;
    let place = place(*address, port, *protocol);
    let plain = |it: &Placed<'_>| it.listen.security == Security::Plain;
    if plain(this) || plain(other) {
        this.spot.refuse(
            format!("{place} is taken already on line {line}"),
            "listeners share an address and port only if the server name tells all of them apart: `tls` or `passthrough`",
        );
        return false;
    }
    // One socket takes the clients of both, before any name is known.
    let (a, b) = (&this.listen, &other.listen);
    let differ = [
        ("proxy_from", a.proxy_from != b.proxy_from),
        ("limits", a.limits != b.limits),
        ("options of the socket", a.socket != b.socket),
    ];
    for (word, _) in differ.into_iter().filter(|(_, differ)| *differ) {
        let message = format!("other {word} at {place} than on line {line}");
        this.spot.refuse(message, "one socket takes the clients of both: write the same in both");
    }
    true
}

/// No name may lead to two listeners, nor what has no name.
fn apart<'p>(
    this: &'p Placed<'_>,
    index: usize,
    placed: &'p [Placed<'_>],
    known: &mut BTreeMap<Way<'p>, BTreeMap<u16, (u16, usize)>>,
) {
    let names = match &this.listen.security {
        Security::Plain => return,
        Security::Terminate(tls) => &tls.names,
        Security::Passthrough { names } => names,
    };
    let Listen { address, ports, protocol, .. } = &this.listen;
    let (start, end) = (*ports.start(), *ports.end());
    let ways = names.iter().map(Some).chain(names.is_empty().then_some(None));
    for name in ways {
        // INVARIANT: the ranges of one way do not overlap, so that only the last one before our end can.
        let ranges = known.entry((*address, *protocol, name)).or_default();
        let before = ranges.range(..=end).next_back().filter(|(_, (last, _))| *last >= start);
        let Some((&from, &(_, holder))) = before else {
            ranges.insert(start, (end, index));
            continue;
        };
        let place = place(*address, from.max(start), *protocol);
        let line = placed[holder].spot.at().line;
        let at = this.names_at.as_ref().unwrap_or(&this.spot);
        match name {
            Some(name) => at.refuse(
                format!("`{name}` at {place} leads elsewhere already on line {line}"),
                "each name leads to one listener; `names: […]` chooses among those of a certificate",
            ),
            None => at.refuse(
                format!("a second listener without names at {place}, after that on line {line}"),
                "only one may take what the others do not claim: add `names: […]`",
            ),
        }
    }
}

fn place(address: IpAddr, port: u16, protocol: Protocol) -> String {
    let socket = SocketAddr::new(address, port);
    match protocol {
        Protocol::Tcp => socket.to_string(),
        Protocol::Udp => format!("{socket}/udp"),
    }
}
