//! A router that peers with us: it is told what the real Adj-RIB-Out finds to tell, and counts.

use std::collections::BTreeMap;
use std::time::Instant;

use edgeproxy::bgp::adj_rib_out::{AdjRibOut, Change};
use edgeproxy::bgp::message::PathAttributes;
use edgeproxy::bgp::origin::OriginSet;
use edgeproxy::bgp::update::{self, Export};
use edgeproxy::config::anycast::AnycastPrefix;
use edgeproxy::config::bgp::{Asn, Attributes, NextHop};

pub struct Neighbor {
    export: Export,
    rib: AdjRibOut,
    has: BTreeMap<AnycastPrefix, PathAttributes>,
    /// For each prefix, when an UPDATE named it, and whether it announced it.
    told: BTreeMap<AnycastPrefix, Vec<(Instant, bool)>>,
}

impl Neighbor {
    pub fn new() -> Self {
        let export = Export {
            local_asn: Asn(64512),
            remote_asn: Asn(64500),
            local_address: "192.0.2.10".parse().expect("an address"),
            next_hop: NextHop { ipv4: None, ipv6: Some("2001:db8::10".parse().expect("an address")) },
            export: Attributes::default(),
            degrade: Attributes::default(),
            drain: Attributes::default(),
        };
        Self { export, rib: AdjRibOut::default(), has: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// What a session sends when the wanted set is another one.
    pub fn sync(&mut self, wanted: &OriginSet, now: Instant) {
        let routes = wanted.routes();
        let rendered =
            routes.filter_map(|(prefix, route)| Some((prefix, self.export.render(prefix, route)?)));
        for change in self.rib.sync(&rendered.collect(), now) {
            assert_eq!(update::pack(&change, true).count(), 1, "a few prefixes fit in one UPDATE");
            let (prefixes, attributes) = match change {
                Change::Withdraw(prefixes) => (prefixes, None),
                Change::Announce(attributes, prefixes) => (prefixes, Some(attributes)),
            };
            for prefix in prefixes {
                self.told.entry(prefix).or_default().push((now, attributes.is_some()));
                match &attributes {
                    Some(attributes) => self.has.insert(prefix, attributes.clone()),
                    None => self.has.remove(&prefix),
                };
            }
        }
    }

    /// Whether it would send us traffic for a prefix.
    pub fn has(&self, prefix: &AnycastPrefix) -> bool {
        self.has.contains_key(prefix)
    }

    /// The UPDATEs since a moment that named a prefix: when, and whether they announced it.
    pub fn told_since(&self, prefix: &AnycastPrefix, since: Instant) -> Vec<(Instant, bool)> {
        let told = self.told.get(prefix).into_iter().flatten();
        told.filter(|(at, _)| *at >= since).copied().collect()
    }
}
