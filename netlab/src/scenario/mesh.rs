//! POPs that are all alike, each with a tunnel to every other; and what is done to them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::values::duration;
use super::{EdgeProxyConfig, Host, Link, LinkEnd, Scenario};
use crate::service::{Kind, ServiceConfig};
use crate::wireguard::KeyPair;

/// The router that they all hang on.
const CORE: &str = "core";
/// More have no place in the addresses below, and none on a machine.
const MOST: u8 = 64;

/// Adds to a scenario the hosts `pop1`, `pop2`, … and a router between them. Each runs edgeproxy, which is not started,
/// and answers datagrams at its [`inside`] address.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// 2 to 64.
    pub pops: u8,
}

/// What is done to all of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeshStep {
    /// Starts all; one figure: how long after the start of the last one until every POP had an answer of every other.
    Start(MeshUp),
    /// Kills and starts one; the same figure of its links. Between the others nothing may be lost meanwhile.
    Restart {
        pop: String,
        #[serde(flatten)]
        up: MeshUp,
    },
}

/// How long that takes.
#[derive(Debug, Clone, Deserialize)]
pub struct MeshUp {
    pub figure: String,
    #[serde(default)]
    pub goal: Option<String>,
    /// More fails: behaviour, not a goal.
    #[serde(deserialize_with = "duration")]
    pub most: Duration,
}

impl Mesh {
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
            return Err(format!("a mesh has 2 to {MOST} POPs, not {}", self.pops));
        }
        let keys = (1..=self.pops).map(|number| KeyPair::generate().map(|pair| (number, pair)));
        let keys: BTreeMap<u8, KeyPair> =
            keys.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        scenario.hosts.insert(CORE.to_owned(), Host { forward: true, ..Host::default() });
        for (number, name) in (1..=self.pops).zip(self.names()) {
            let inside = inside(number);
            let edgeproxy = EdgeProxyConfig {
                config: configuration(number, &keys),
                secrets: BTreeMap::from([("pop.key".to_owned(), keys[&number].private() + "\n")]),
                descriptors: None,
                state_size: None,
                start: false,
            };
            let listen = vec![(inside, 7).into()];
            let host = Host {
                loopback: vec![format!("{inside}/128")],
                routes: vec![format!("10.77.0.0/16 via 10.77.{number}.9")],
                edgeproxy: Some(edgeproxy),
                services: vec![ServiceConfig { kind: Kind::UdpEcho, name: name.clone(), listen }],
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
}

/// Where a POP answers: a machine's address in its /60 (region eu, kind 1).
#[must_use]
pub fn inside(number: u8) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0xfd5a, 0x1c7e, 0x92b4, 0x1001 | u16::from(number) << 4, 0, 0, 0, 1)
}

fn configuration(number: u8, keys: &BTreeMap<u8, KeyPair>) -> String {
    let peer = |(other, pair): (&u8, &KeyPair)| {
        let public = pair.public();
        format!(
            "    - {{ pop: pop{other}, region: eu, number: {other}, public_key: \"{public}\", endpoints: [\"10.77.{other}.1:51820\"] }}\n"
        )
    };
    let peers: String = keys.iter().filter(|(other, _)| **other != number).map(peer).collect();
    format!(
        "generation: 1
pop: {{ id: pop{number}, region: eu }}
proxy: {{ workers: 1 }}
bgp: {{ asn: 64512, router_id: 10.77.{number}.1, neighbors: [{{ name: nobody, address: 10.77.{number}.99, asn: 64500 }}] }}
anycast:
  - {{ prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web] }}
services:
  - name: web
    backends: [{{ id: web-1, address: 127.0.0.1, port: 8080 }}]
    health: {{ tcp: {{}}, interval: 5s }}
backhaul:
  fleet: fd5a:1c7e:92b4::/48
  number: {number}
  private_key_file: pop.key
  backend: userspace
  peers:
{peers}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pop_knows_every_other() {
        let mut scenario = Scenario::read("scenario: m\nabout: m\nhosts: {}\nmesh: { pops: 12 }\n").unwrap();
        assert_eq!((scenario.hosts.len(), scenario.links.len()), (13, 12));
        let text = &scenario.hosts["pop12"].edgeproxy.as_ref().unwrap().config;
        assert_eq!(text.matches("public_key").count(), 11);
        assert!(!text.contains("pop: pop12") && text.contains("pop: pop11"));
        assert_eq!(inside(12).to_string(), "fd5a:1c7e:92b4:10c1::1");
        assert!(Mesh { pops: 1 }.expand(&mut scenario).is_err());
    }
}
