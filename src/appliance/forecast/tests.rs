//! Changes of a configuration as a table: what becomes of prefixes and routes, and what goes dark.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::config::load::parse;
use crate::observe::status::{AddressStatus, BackendStatus, SentRoute};

const OLD: &str = "\
generation: 7
pop: { id: gru1, region: sa }
bgp:
  asn: 64512
  router_id: 192.0.2.10
  neighbors:
    - { name: a, address: 192.0.2.1, asn: 64500, export: { med: 50 } }
    - { name: b, address: 192.0.2.2, asn: 64501 }
    - { name: c, address: 192.0.2.3, asn: 64502 }
anycast:
  - { prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web], attributes: { communities: [\"64512:1\"] } }
  - { prefix: 203.0.113.0/24, addresses: [203.0.113.1], services: [dns] }
services:
  - name: web
    watermark: { low: 1, high: 2 }
    backends:
      - { id: web-1, address: 10.0.0.1, port: 80 }
      - { id: web-2, address: 10.0.0.2, port: 80 }
  - name: dns
    backends: [{ id: dns-1, address: 10.0.0.3, port: 53 }]
";

/// `web-2` and `dns-1` are down; a and b have the first prefix, c has no session.
struct World {
    prefixes: Vec<PrefixStatus>,
    neighbors: Vec<Arc<NeighborStatus>>,
    services: Vec<ServiceStatus>,
}

impl World {
    fn new() -> Self {
        let prefix = |prefix: &str, state: &str, address: &str, service: &str| PrefixStatus {
            prefix: prefix.into(),
            state: state.into(),
            reason: "healthy".into(),
            why: String::new(),
            change: String::new(),
            since_ms: 0,
            addresses: vec![AddressStatus {
                address: address.into(),
                device: "lo".into(),
                state: "ours".into(),
                error: None,
            }],
            cause: None,
            drain: None,
            damping: None,
            lease: None,
            services: vec![service.into()],
        };
        let sample = crate::observe::samples::neighbors().remove(0);
        let sent = |med: Option<u32>| SentRoute {
            prefix: "198.51.100.0/24".into(),
            route: Arc::new(crate::observe::journal::Route {
                next_hop: "192.0.2.10".into(),
                as_path: vec![64512],
                med,
                communities: vec!["64512:1".into()],
                large_communities: Vec::new(),
            }),
            sent_ms_ago: 0,
        };
        let neighbor = |name: &str, announced: Vec<SentRoute>| {
            Arc::new(NeighborStatus {
                name: name.into(),
                state: if announced.is_empty() { "Active" } else { "Established" }.into(),
                local_address: (!announced.is_empty()).then(|| "192.0.2.10".into()),
                families: if announced.is_empty() { Vec::new() } else { vec!["ipv4".into()] },
                announced,
                ..(*sample).clone()
            })
        };
        let sample = crate::observe::samples::services().remove(0);
        let backend = |id: &str, verdict: &str| BackendStatus {
            id: id.into(),
            verdict: verdict.into(),
            ..sample.backends[0].clone()
        };
        let service = |name: &str, backends: Vec<BackendStatus>| ServiceStatus {
            service: name.into(),
            backends,
            ..sample.clone()
        };
        Self {
            prefixes: vec![
                prefix("198.51.100.0/24", "announced", "198.51.100.1", "web"),
                prefix("203.0.113.0/24", "withdrawn", "203.0.113.1", "dns"),
            ],
            neighbors: vec![
                neighbor("a", vec![sent(Some(50))]),
                neighbor("b", vec![sent(None)]),
                neighbor("c", Vec::new()),
            ],
            services: vec![
                service("web", vec![backend("web-1", "up"), backend("web-2", "down")]),
                service("dns", vec![backend("dns-1", "down")]),
            ],
        }
    }

    /// The first prefix is withdrawn, and nobody has it.
    fn withdrawn(mut self, reason: &str) -> Self {
        self.prefixes[0].state = "withdrawn".into();
        self.prefixes[0].reason = reason.into();
        for neighbor in &mut self.neighbors {
            Arc::make_mut(neighbor).announced.clear();
        }
        self
    }

    fn forecast(&self, new: &str) -> Forecast {
        let config = |text: &str| parse(text, Path::new("")).unwrap_or_else(|problems| panic!("{problems}"));
        let present =
            Present { prefixes: &self.prefixes, neighbors: &self.neighbors, services: &self.services };
        forecast(&config(OLD), &config(new), &present, Instant::now())
    }
}

/// What changes, in short: `PREFIX now>then`, then `NEIGHBOR action PREFIX`, then what goes dark.
fn short(forecast: &Forecast) -> Vec<String> {
    let prefixes = forecast.prefixes.iter().filter(|it| it.now != it.then);
    let prefixes = prefixes.map(|it| format!("{} {}>{}", it.prefix, it.now, it.then));
    let routes = forecast.neighbors.iter().flat_map(|it| it.routes.iter().map(|route| (&it.name, route)));
    let routes = routes.filter(|(_, route)| route.action != Action::Keep);
    let routes = routes.map(|(name, route)| {
        format!("{name} {} {}", format!("{:?}", route.action).to_lowercase(), route.prefix)
    });
    let dark = forecast.darkened().into_iter().map(|prefix| format!("dark {prefix}"));
    prefixes.chain(routes).chain(dark).collect()
}

/// The old configuration with one text replaced.
fn with(from: &str, to: &str) -> String {
    assert_eq!(OLD.matches(from).count(), 1, "{from}");
    OLD.replace(from, to)
}

const FIRST: &str = "  - { prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web], attributes: { communities: [\"64512:1\"] } }\n";
const A: &str = "    - { name: a, address: 192.0.2.1, asn: 64500, export: { med: 50 } }\n";

#[test]
fn each_change_and_what_becomes_of_it() {
    let gone = "198.51.100.0/24 announced>absent";
    let (withdrawn, dark) = ("198.51.100.0/24 announced>withdrawn", "dark 198.51.100.0/24");
    let (a_loses, b_loses) = ("a withdraw 198.51.100.0/24", "b withdraw 198.51.100.0/24");
    #[rustfmt::skip]
    let table: Vec<(&str, String, Vec<&str>)> = vec![
        ("nothing", with("generation: 7", "generation: 8"), vec![]),
        ("a prefix leaves", with(FIRST, ""), vec![gone, a_loses, b_loses, dark]),
        ("state: down", with("services: [web],", "services: [web], state: down,"), vec![withdrawn, a_loses, b_loses, dark]),
        ("a withdrawn prefix leaves", with("  - { prefix: 203.0.113.0/24, addresses: [203.0.113.1], services: [dns] }\n", ""),
            vec!["203.0.113.0/24 withdrawn>absent"]),
        ("low mark over what is healthy", with("{ low: 1, high: 2 }", "{ low: 2, high: 3 }"), vec![withdrawn, a_loses, b_loses, dark]),
        ("high mark over it: as before", with("{ low: 1, high: 2 }", "{ low: 1, high: 3 }"), vec![]),
        ("a degrade mark", with("{ low: 1, high: 2 }", "{ low: 1, high: 2, degrade: 4 }"), vec!["198.51.100.0/24 announced>degraded"]),
        ("the healthy backend leaves", with("      - { id: web-1, address: 10.0.0.1, port: 80 }\n", ""),
            vec![withdrawn, a_loses, b_loses, dark]),
        ("the healthy backend weighs less", with("address: 10.0.0.1, port: 80 }", "address: 10.0.0.1, port: 80, weight: 1 }"),
            vec![withdrawn, a_loses, b_loses, dark]),
        ("the healthy backend moves: nothing has failed", with("address: 10.0.0.1, port: 80", "address: 10.0.0.1, port: 81"), vec![]),
        ("another service that is down", with("services: [web]", "services: [web, dns]"), vec![withdrawn, a_loses, b_loses, dark]),
        ("another service that is enough", with("services: [dns]", "services: [web]"),
            vec!["203.0.113.0/24 withdrawn>announced", "a announce 203.0.113.0/24", "b announce 203.0.113.0/24"]),
        ("a new prefix of a healthy service", with("services:\n  - name: web", "  - { prefix: 192.0.2.0/24, services: [web] }\nservices:\n  - name: web"),
            vec!["192.0.2.0/24 absent>announced", "a announce 192.0.2.0/24", "b announce 192.0.2.0/24"]),
        ("a community", with("64512:1", "64512:2"), vec!["a attributes 198.51.100.0/24", "b attributes 198.51.100.0/24"]),
        ("a neighbor's MED", with("med: 50", "med: 60"), vec!["a attributes 198.51.100.0/24"]),
        ("one neighbor reset", with("asn: 64500,", "asn: 64510,"), vec!["a again 198.51.100.0/24"]),
        ("one neighbor removed", with(A, ""), vec![a_loses]),
        ("one reset, the other removed", with(A, "").replace("asn: 64501", "asn: 64511"),
            vec![a_loses, "b again 198.51.100.0/24", dark]),
        ("all reset", with("router_id: 192.0.2.10", "router_id: 192.0.2.11"),
            vec!["a again 198.51.100.0/24", "b again 198.51.100.0/24", "c announce 198.51.100.0/24", dark]),
        ("no checks any more", with("  - name: dns\n", "  - name: dns\n    health: off\n"),
            vec!["203.0.113.0/24 withdrawn>announced", "a announce 203.0.113.0/24", "b announce 203.0.113.0/24"]),
        ("a neighbor more", with(A, &format!("{A}{}", A.replace("name: a", "name: d").replace("192.0.2.1,", "192.0.2.4,"))),
            vec!["d announce 198.51.100.0/24"]),
    ];
    let world = World::new();
    for (what, new, expected) in table {
        let forecast = world.forecast(&new);
        assert_eq!(short(&forecast), expected, "{what}\n{forecast}");
    }
}

#[test]
fn every_line_says_why() {
    let new = with("64512:1", "64512:2")
        .replace("med: 50", "med: 60")
        .replace("services: [dns]", "services: [new]")
        + "  - name: new\n    backends: [{ id: new-1, address: 10.0.0.9, port: 53 }]\n";
    let new =
        new.replace("  - { prefix: 203", "  - { prefix: 192.0.2.0/24, services: [new] }\n  - { prefix: 203");
    let forecast = World::new().forecast(&new);
    let shown = forecast.to_string();
    for line in [
        "prefix    192.0.2.0/24 absent → withdrawn: announced when service new has 1 weight healthy",
        "prefix    198.51.100.0/24 stays announced: service web is healthy",
        "neighbor  a soft: export.med 50 → 60",
        "          attributes 198.51.100.0/24: MED 50 → 60, communities 64512:1 → 64512:2",
        "          announce 192.0.2.0/24: announced when service new has 1 weight healthy",
        "neighbor  c keep",
        "service   new add",
        "service   web keep",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line:?} is missing in\n{shown}");
    }
    let document = serde_json::to_value(&forecast).unwrap();
    assert_eq!(document["neighbors"][0]["change"], "soft");
    assert_eq!(document["neighbors"][0]["routes"][1]["action"], "attributes");
    assert_eq!(document["neighbors"][0]["routes"][1]["new"]["med"], 60);
    assert_eq!(document["prefixes"][0]["darkened"], false);
}

#[test]
fn an_address_that_is_missing_stays_missing() {
    let mut world = World::new().withdrawn("address-missing");
    world.prefixes[0].addresses[0].state = "missing".into();
    assert_eq!(short(&world.forecast(&with("generation: 7", "generation: 8"))), Vec::<String>::new());
    let moved = world.forecast(&with("addresses: [198.51.100.1]", "addresses: [198.51.100.2]"));
    assert_eq!(short(&moved)[0], "198.51.100.0/24 withdrawn>announced");
}

#[test]
fn silence_of_the_checks_is_not_ended_by_a_configuration() {
    let world = World::new().withdrawn("health-stale");
    assert_eq!(short(&world.forecast(&with("generation: 7", "generation: 8"))), Vec::<String>::new());
}
