//! POPs of one fleet, all alike, that replicate; and what is done to them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::values::duration;
use super::{EdgeProxyConfig, Host, Link, LinkEnd, Scenario};

/// The router that they all hang on.
const CORE: &str = "core";
const MOST: u8 = 64;

/// Adds to a scenario the hosts `pop1`, `pop2`, … and a router between them. Each runs edgeproxy, which is not started.
/// The first two know everybody from the start, the others only the first.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// 2 to 64.
    pub pops: u8,
}

/// What is done to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FleetStep {
    /// Makes authority and certificates and starts all; one figure: from the start of the last one until every POP
    /// is connected with every other and has all its rows.
    Start(FleetFigure),
    /// So many notes, each POP in its turn; one figure: from the answer that it is written until every other has it.
    Notes {
        count: u32,
        #[serde(flatten)]
        figure: FleetFigure,
    },
    /// One figure: how long it takes from now until all POPs that run have the same of everybody.
    Equal(FleetFigure),
    /// A note of one POP, which nobody waits for.
    Note { pop: String, text: String },
    /// What a POP knows of another's note.
    Knows { pop: String, of: String, note: String },
    /// Kills one with SIGKILL, and forgets its state if asked to.
    Kill {
        pop: String,
        #[serde(default)]
        forget: bool,
    },
    /// Starts one that was killed.
    Revive { pop: String },
}

/// How long something takes.
#[derive(Debug, Clone, Deserialize)]
pub struct FleetFigure {
    pub figure: String,
    #[serde(default)]
    pub goal: Option<String>,
    /// More fails: behaviour, not a goal.
    #[serde(deserialize_with = "duration")]
    pub most: Duration,
}

impl Fleet {
    /// Names of the hosts.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        (1..=self.pops).map(|number| format!("pop{number}")).collect()
    }

    /// Puts the hosts and links into a scenario.
    ///
    /// # Errors
    /// When there are too few or too many.
    pub fn expand(self, scenario: &mut Scenario) -> Result<(), String> {
        if !(2..=MOST).contains(&self.pops) {
            return Err(format!("a fleet has 2 to {MOST} POPs, not {}", self.pops));
        }
        scenario.hosts.insert(CORE.to_owned(), Host { forward: true, ..Host::default() });
        for (number, name) in (1..=self.pops).zip(self.names()) {
            let edgeproxy = EdgeProxyConfig {
                config: self.configuration(number),
                secrets: BTreeMap::new(),
                descriptors: None,
                state_size: None,
                start: false,
            };
            let host = Host {
                routes: vec![format!("10.77.0.0/16 via 10.77.{number}.9")],
                edgeproxy: Some(edgeproxy),
                ..Host::default()
            };
            let end = |host: &str, interface: String, last: u8| LinkEnd {
                host: host.to_owned(),
                interface,
                addresses: vec![format!("10.77.{number}.{last}/24")],
            };
            scenario
                .links
                .push(Link { ends: [end(&name, "core0".to_owned(), 1), end(CORE, format!("{name}-0"), 9)] });
            scenario.hosts.insert(name, host);
        }
        Ok(())
    }

    fn configuration(self, number: u8) -> String {
        let known = |other: &u8| *other != number && (number <= 2 || *other == 1);
        let peer = |other: u8| {
            format!("    - {{ pop: pop{other}, region: eu, address: \"10.77.{other}.1:4002\" }}\n")
        };
        let peers: String = (1..=self.pops).filter(known).map(peer).collect();
        format!(
            "generation: 1
pop: {{ id: pop{number}, region: eu }}
proxy: {{ workers: 1 }}
bgp: {{ asn: 64512, router_id: 10.77.{number}.1, neighbors: [{{ name: nobody, address: 10.77.{number}.99, asn: 64500 }}] }}
anycast:
  - {{ prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web] }}
services:
  - name: web
    backends: [{{ id: web-{number}, address: 127.0.0.1, port: 8080 }}]
    health: {{ tcp: {{}}, interval: 5s }}
fleet: {{ name: example }}
replication:
  certificate: id/pop.pem
  key: id/pop.key
  authorities: [id/ca.pem]
  advertise: \"10.77.{number}.1:4002\"
  peers:
{peers}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_knows_the_first_and_the_first_everybody() {
        let scenario = Scenario::read("scenario: f\nabout: f\nhosts: {}\nfleet: { pops: 5 }\n").unwrap();
        assert_eq!((scenario.hosts.len(), scenario.links.len()), (6, 5));
        let text = |pop: &str| scenario.hosts[pop].edgeproxy.as_ref().unwrap().config.clone();
        assert_eq!(text("pop1").matches("region: eu, address").count(), 4);
        assert_eq!(text("pop5").matches("region: eu, address").count(), 1);
        assert!(text("pop5").contains("pop: pop1,"));
    }
}
