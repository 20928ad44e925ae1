//! The tree as a configuration: every section is read, whatever is wrong with the others.

use std::path::Path;

use super::Config;
use super::read::Spot;

mod admin;
mod anycast;
mod attributes;
mod bgp;
mod check;
mod health;
mod leave;
mod neighbor;
mod observe;
mod pop;
mod services;

/// Sections of versions to come: known words, but refused.
const LATER: [&str; 6] = ["proxy", "dns", "discovery", "backhaul", "replication", "fleet"];

/// Decodes the whole file; `base` is where relative paths of secrets begin. None only after a problem.
pub(super) fn decode(top: &Spot<'_>, base: &Path) -> Option<Config> {
    let mut fields = top.fields()?;
    let generation = fields.need("generation").and_then(|spot| spot.number(1..=u64::MAX));
    let pop = fields.need("pop").and_then(|spot| pop::decode(&spot));
    let bgp = fields.need("bgp").and_then(|spot| bgp::decode(&spot, base));
    // Asked for before `services`, which it names, so that hints list the sections in the order of the file.
    let anycast = fields.need("anycast");
    let region = pop.as_ref().map_or("", |pop| pop.region.as_str());
    let services = fields.need("services").and_then(|spot| services::decode(&spot, region));
    let families = bgp.as_ref().and_then(bgp::Read::carried);
    let names = services.as_ref().and_then(services::Read::names);
    let anycast = anycast.and_then(|spot| anycast::decode(&spot, names, families.as_ref()));
    let health = fields.get("health").and_then(|spot| health::decode(&spot)).unwrap_or_default();
    let admin = fields.get("admin").and_then(|spot| admin::decode(&spot)).unwrap_or_default();
    let observe = fields.get("observe").and_then(|spot| observe::decode(&spot)).unwrap_or_default();
    fields.close(&LATER);
    Some(Config {
        generation: generation?,
        pop: pop?,
        bgp: bgp?.bgp?,
        anycast: anycast?,
        services: services?.services,
        health,
        proxy: crate::config::proxy::Proxy::default(),
        admin,
        observe,
    })
}
