//! POPs of one fleet, all alike, that replicate; and what is done to them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::values::duration;
use super::{EdgeProxyConfig, Host, Link, LinkEnd, Scenario};
use crate::service::ServiceConfig;

/// The router that they all hang on.
const CORE: &str = "core";
const CLIENT: &str = "client";
const MOST: u8 = 64;

/// Adds to a scenario the hosts `pop1`, `pop2`, … and a router between them. Each runs edgeproxy, which is not started.
/// The first two know everybody from the start, the others only the first.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// 2 to 64.
    pub pops: u8,
    /// Each announces the prefix to the router, which runs BIRD, as long as its service `web` answers; the smaller its
    /// number, the more it is preferred. A host `client` hangs on the router as well; whatever it sends to
    /// 198.51.100.1:7 is answered by the POP it comes to, served or not. All know each other from the start, and the
    /// first three are voters.
    #[serde(default)]
    pub anycast: bool,
    /// With `anycast`: each has a backhaul without a peer in its configuration, and its service `web`, TCP at
    /// 198.51.100.1:8001 with a backend of its own, takes those of the others too.
    #[serde(default)]
    pub mesh: bool,
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
        /// Only the first so many POPs write. Default: all.
        writers: Option<usize>,
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
        scenario.hosts.insert(CORE.to_owned(), self.core()?);
        if self.anycast {
            let client = Host { routes: vec!["default via 10.77.0.9".to_owned()], ..Host::default() };
            scenario.hosts.insert(CLIENT.to_owned(), client);
            let end = |host: &str, interface: &str, last: u8| LinkEnd {
                host: host.to_owned(),
                interface: interface.to_owned(),
                addresses: vec![format!("10.77.0.{last}/24")],
            };
            scenario.links.push(Link { ends: [end(CLIENT, "core0", 1), end(CORE, "client-0", 9)] });
        }
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
                services: if self.anycast { self.services(&name)? } else { Vec::new() },
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

    /// What answers whoever comes to a POP, and what its check asks.
    fn services(self, name: &str) -> Result<Vec<ServiceConfig>, String> {
        let web = if self.mesh { "tcp" } else { "http" };
        read(&format!(
            "[{{ name: {name}, kind: udp-echo, listen: [\"198.51.100.1:7\"] }}, {{ name: web, kind: {web}, listen: [\"127.0.0.1:8080\"] }}]"
        ))
    }

    fn core(self) -> Result<Host, String> {
        if !self.anycast {
            return Ok(Host { forward: true, ..Host::default() });
        }
        let neighbor = |number: u8| format!("{{ name: pop{number}, address: 10.77.{number}.1, asn: 64512 }}");
        let neighbors: Vec<String> = (1..=self.pops).map(neighbor).collect();
        let neighbors = neighbors.join(", ");
        read(&format!(
            "forward: true\nbird: {{ asn: 64500, router_id: 10.77.0.9, neighbors: [{neighbors}] }}\n"
        ))
    }

    fn configuration(self, number: u8) -> String {
        let known = |other: &u8| *other != number && (self.anycast || number <= 2 || *other == 1);
        let peer = |other: u8| {
            format!("    - {{ pop: pop{other}, region: eu, address: \"10.77.{other}.1:4002\" }}\n")
        };
        let (bgp, prefix, check, voters) = if self.anycast {
            (
                format!("{{ name: core, address: 10.77.{number}.9, asn: 64500, connect_retry: 1s }}"),
                format!(
                    ", attributes: {{ med: {number}0 }}, damping: {{ min_up: 200ms, max_dwell: 1s, decay: 2s }}"
                ),
                "{ http: { path: / }, interval: 200ms, fast_interval: 50ms, timeout: 150ms }",
                ", voters: [pop1, pop2, pop3]",
            )
        } else {
            let nobody = format!("{{ name: nobody, address: 10.77.{number}.99, asn: 64500 }}");
            (nobody, String::new(), "{ tcp: {}, interval: 5s }", "")
        };
        let peers: String = (1..=self.pops).filter(known).map(peer).collect();
        let (check, listen, backhaul) = if self.mesh {
            (
                "{ tcp: {}, interval: 200ms, fast_interval: 20ms, timeout: 150ms }",
                "    listen: [{ address: 198.51.100.1, port: 8001 }]\n    from_fleet: true\n",
                format!(
                    "backhaul: {{ fleet: fd5a:1c7e:92b4::/48, number: {number}, private_key_file: pop.key, backend: userspace }}\n"
                ),
            )
        } else {
            (check, "", String::new())
        };
        format!(
            "generation: 1
pop: {{ id: pop{number}, region: eu }}
proxy: {{ workers: 1 }}
bgp: {{ asn: 64512, router_id: 10.77.{number}.1, neighbors: [{bgp}] }}
anycast:
  - {{ prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web]{prefix} }}
services:
  - name: web
    backends: [{{ id: web-{number}, address: 127.0.0.1, port: 8080 }}]
    health: {check}
{listen}{backhaul}fleet: {{ name: example{voters} }}
replication:
  certificate: id/pop.pem
  key: id/pop.key
  authorities: [id/ca.pem]
  advertise: \"10.77.{number}.1:4002\"
  limits: {{ rows_per_second: 20 }}
  peers:
{peers}"
        )
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
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
