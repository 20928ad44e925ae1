//! The tree as a configuration: every section is read, whatever is wrong with the others.

use std::net::SocketAddr;
use std::path::Path;

use super::Config;
use super::certificate::Files;
use super::read::Spot;

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
mod services;

/// Sections of versions to come: known words, but refused.
const LATER: [&str; 4] = ["dns", "discovery", "replication", "fleet"];

/// Decodes the whole file; `base` is where relative paths of files begin. None only after a problem.
pub(super) fn decode(top: &Spot<'_>, base: &Path) -> Option<Config> {
    let files = Files::new(base);
    let mut fields = top.fields()?;
    let generation = fields.need("generation").and_then(|spot| spot.number(1..=u64::MAX));
    let pop = fields.need("pop").and_then(|spot| pop::decode(&spot));
    let bgp = fields.need("bgp").and_then(|spot| bgp::decode(&spot, base));
    // Asked for before `services`, which it names, so that hints list the sections in the order of the file.
    let anycast = fields.need("anycast");
    let ours = pop.as_ref();
    let backhaul_at = fields.get("backhaul");
    let backhaul = backhaul_at.as_ref().and_then(|spot| backhaul::decode(spot, ours, base));
    // Peers that could not be read might be those that backends name.
    let peers = backend::Peers { read: backhaul.as_ref(), written: backhaul_at.is_some() };
    let region = pop.as_ref().map_or("", |pop| pop.region.as_str());
    let services_at = fields.need("services");
    let services = services_at.as_ref().and_then(|spot| services::decode(spot, region, peers, &files));
    let families = bgp.as_ref().and_then(bgp::Read::carried);
    let names = services.as_ref().and_then(services::Read::names);
    let before = top.sheet().count();
    let anycast = anycast.and_then(|spot| anycast::decode(&spot, names, families.as_ref()));
    let prefixes = anycast.as_ref().filter(|_| top.sheet().count() == before);
    let health = fields.get("health").and_then(|spot| health::decode(&spot)).unwrap_or_default();
    let proxy = fields.get("proxy").and_then(|spot| proxy::decode(&spot, &files)).unwrap_or_default();
    let admin = fields.get("admin").and_then(|spot| admin::decode(&spot)).unwrap_or_default();
    let observe = fields.get("observe").and_then(|spot| observe::decode(&spot)).unwrap_or_default();
    fields.close(&LATER);
    if let (Some(spot), Some(read)) = (&services_at, &services) {
        let speaker = bgp.as_ref().and_then(|read| read.bgp.as_ref()).map(|bgp| bgp.listen.as_slice());
        let mut taken: Vec<(SocketAddr, &str)> =
            speaker.unwrap_or_default().iter().map(|socket| (*socket, "bgp.listen")).collect();
        taken.extend(observe.metrics.map(|socket| (socket, "observe.metrics")));
        let ingress =
            backhaul.as_ref().and_then(|ours| Some(SocketAddr::new(ours.node().into(), ours.ingress?)));
        taken.extend(ingress.map(|socket| (socket, "backhaul.ingress")));
        listen::together(spot, &read.listeners, prefixes, &taken);
    }
    Some(Config {
        generation: generation?,
        pop: pop?,
        bgp: bgp?.bgp?,
        anycast: anycast?,
        services: services?.services,
        health,
        proxy,
        backhaul,
        admin,
        observe,
    })
}
