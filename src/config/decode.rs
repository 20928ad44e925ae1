//! The tree as a configuration: every section is read, whatever is wrong with the others.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::Config;
use super::backhaul::Backhaul;
use super::certificate::Files;
use super::listen::Protocol;
use super::read::Spot;
use super::replication::Replication;

mod admin;
mod anycast;
mod attributes;
mod backend;
mod backhaul;
mod bgp;
mod check;
mod forwarding;
mod health;
mod leave;
mod listen;
mod neighbor;
mod observe;
mod pop;
mod proxy;
mod replication;
mod services;

use backend::{Elsewhere, Here};

/// Sections of versions to come: known words, but refused.
const LATER: [&str; 2] = ["dns", "discovery"];

/// Decodes the whole file; `base` is where relative paths of files begin. None only after a problem.
pub(super) fn decode(top: &Spot<'_>, base: &Path) -> Option<Config> {
    let files = Files::new(base);
    let mut fields = top.fields()?;
    let generation = fields.need("generation").and_then(|spot| spot.number(1..=u64::MAX));
    let pop = fields.need("pop").and_then(|spot| pop::decode(&spot));
    let bgp = fields.need("bgp").and_then(|spot| bgp::decode(&spot, base));
    // Asked for in the order of the file, so that hints list the sections like this; read in the order in which
    // they name each other.
    let anycast = fields.need("anycast");
    let services_at = fields.need("services");
    let health = fields.get("health").and_then(|spot| health::decode(&spot)).unwrap_or_default();
    let proxy = fields.get("proxy").and_then(|spot| proxy::decode(&spot, &files)).unwrap_or_default();
    let backhaul_at = fields.get("backhaul");
    let backhaul = backhaul_at.as_ref().and_then(|spot| backhaul::decode(spot, pop.as_ref(), &files));
    let fleet_at = fields.get("fleet");
    let replication_at = fields.get("replication");
    let elsewhere = match (&backhaul_at, &backhaul) {
        (None, _) => Elsewhere::Nowhere,
        (Some(_), None) => Elsewhere::Unread,
        (Some(_), Some(read)) => Elsewhere::Peers(read),
    };
    let services = services_at.as_ref().and_then(|spot| {
        let fleet = backhaul_at.is_some() && replication_at.is_some();
        let here = Here { pop: pop.as_ref(), elsewhere, fleet };
        services::decode(spot, &here, &files)
    });
    let families = bgp.as_ref().and_then(bgp::Read::carried);
    let names = services.as_ref().and_then(services::Read::names);
    let before = top.sheet().count();
    let fleet = backhaul.as_ref().and_then(|read| read.fleet);
    let anycast = anycast.and_then(|spot| anycast::decode(&spot, names, families.as_ref(), fleet));
    let prefixes = anycast.as_ref().filter(|_| top.sheet().count() == before);
    let fleet_read = fleet_at.as_ref().and_then(replication::fleet);
    let replication = match (&fleet_at, &replication_at) {
        (Some(_), Some(spot)) => replication::decode(spot, fleet_read, pop.as_ref(), &files),
        (None, Some(spot)) => {
            spot.refuse("`replication` without `fleet`", "`fleet: { name: … }`, as in its certificates");
            None
        }
        (Some(spot), None) => {
            spot.refuse("`fleet` without `replication`", "POPs of a fleet know each other by replication");
            None
        }
        (None, None) => None,
    };
    let admin = fields.get("admin").and_then(|spot| admin::decode(&spot)).unwrap_or_default();
    let observe = fields.get("observe").and_then(|spot| observe::decode(&spot)).unwrap_or_default();
    fields.close(&LATER);
    let speaker = bgp.as_ref().and_then(|read| read.bgp.as_ref()).map(|bgp| bgp.listen.as_slice());
    let mut taken: Vec<(SocketAddr, Protocol, &str)> =
        speaker.unwrap_or_default().iter().map(|socket| (*socket, Protocol::Tcp, "bgp.listen")).collect();
    taken.extend(observe.metrics.map(|socket| (socket, Protocol::Tcp, "observe.metrics")));
    if let Some(read) = &backhaul {
        read.apart(&taken);
        taken.extend(read.sockets());
    }
    taken.extend(replication.iter().map(|read| (read.listen, Protocol::Udp, "replication.listen")));
    if let (Some(spot), Some(read)) = (&services_at, &services) {
        listen::together(spot, &read.listeners, prefixes, &taken);
    }
    let replication = match replication_at {
        Some(_) => Some(Arc::new(replication?)),
        None if fleet_at.is_some() => return None,
        None => None,
    };
    let backhaul = match backhaul_at {
        Some(_) => {
            let port = replication.as_deref().and_then(Replication::port_inside);
            Some(Arc::new(Backhaul { replication: port, ..backhaul?.backhaul? }))
        }
        None => None,
    };
    Some(Config {
        generation: generation?,
        pop: pop?,
        bgp: bgp?.bgp?,
        anycast: anycast?,
        services: services?.services,
        health,
        proxy,
        backhaul,
        replication,
        admin,
        observe,
    })
}
