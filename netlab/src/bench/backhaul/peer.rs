//! The tunnels that are compared, each with what its manual recommends, all with the same MTU inside.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use crate::binary;
use crate::edgeproxy::EdgeProxy;
use crate::edgeproxy::configuration::complete;
use crate::namespace::Namespace;
use crate::wireguard::{KeyPair, PeerConfig, Program, Tunnel, TunnelConfig};

/// The MTU inside; 1,500 outside.
const MTU: u16 = 1_420;
/// The UDP port outside.
const PORT: u16 = 51_820;

/// A tunnel. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    EdgeProxy,
    WireguardGo,
    Boringtun,
}

/// A peer that can take part.
#[derive(Debug, Clone)]
pub struct Found {
    pub version: String,
}

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// What both ends know of each other.
#[derive(Debug)]
pub struct Keys {
    pub left: KeyPair,
    pub right: KeyPair,
}

/// A tunnel process of one end. Dropping it kills it.
#[derive(Debug)]
pub enum End {
    EdgeProxy(Box<EdgeProxy>),
    Other(Box<Tunnel>),
}

impl Peer {
    pub const ALL: [Peer; 3] = [Self::EdgeProxy, Self::WireguardGo, Self::Boringtun];

    /// Its word in figures and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::EdgeProxy => "edgeproxy",
            Self::WireguardGo => "wireguard_go",
            Self::Boringtun => "boringtun",
        }
    }

    /// Whether it can take part, and its version.
    ///
    /// # Errors
    /// Why it cannot, in words.
    pub fn find(self, work: &Path) -> Result<Found, String> {
        let program = match self {
            Self::EdgeProxy => return edgeproxy(work),
            Self::WireguardGo => Program::WireguardGo,
            Self::Boringtun => Program::Boringtun,
        };
        crate::wireguard::program::tools()?;
        Ok(Found { version: program.find()?.version })
    }

    /// Starts one end in its host.
    ///
    /// # Errors
    /// When it does not start, with its last words.
    pub fn start(self, side: Side, keys: &Keys, host: &Namespace, work: &Path) -> io::Result<End> {
        let program = match self {
            Self::EdgeProxy => {
                let secrets = BTreeMap::from([("backhaul.key".to_owned(), side.own(keys).private() + "\n")]);
                let mut edgeproxy = EdgeProxy::new(host, work, &configuration(side, keys), &secrets)?;
                edgeproxy.start()?;
                return Ok(End::EdgeProxy(Box::new(edgeproxy)));
            }
            Self::WireguardGo => Program::WireguardGo,
            Self::Boringtun => Program::Boringtun,
        };
        let far = side.far();
        let peer = PeerConfig {
            name: "far".to_owned(),
            public_key: far.own(keys).public(),
            preshared_key: None,
            allowed_ips: vec![far.subnet().parse().map_err(io::Error::other)?],
            endpoint: Some(SocketAddr::from((far.outside(), PORT))),
            keepalive: None,
            routes: true,
        };
        let config = TunnelConfig {
            program,
            interface: "wg0".to_owned(),
            private_key: side.own(keys).private(),
            listen: PORT,
            mtu: MTU,
            addresses: Vec::new(),
            peers: vec![peer],
            start: true,
        };
        let mut tunnel = Tunnel::new(host, work, config)?;
        tunnel.start()?;
        Ok(End::Other(Box::new(tunnel)))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn far(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// The address on the link.
    #[must_use]
    pub fn outside(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, self.number())
    }

    /// A machine's address behind this end: region eu, kind 1.
    #[must_use]
    pub fn inside(self) -> Ipv6Addr {
        let word = 0x1001 | u16::from(self.number()) << 4;
        Ipv6Addr::new(0xfd5a, 0x1c7e, 0x92b4, word, 0, 0, 0, 1)
    }

    /// Everything behind this end: a /60.
    fn subnet(self) -> String {
        format!("fd5a:1c7e:92b4:10{}0::/60", self.number())
    }

    fn number(self) -> u8 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
        }
    }

    fn own(self, keys: &Keys) -> &KeyPair {
        match self {
            Self::Left => &keys.left,
            Self::Right => &keys.right,
        }
    }
}

impl End {
    /// Its process while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        match self {
            Self::EdgeProxy(edgeproxy) => edgeproxy.pid(),
            Self::Other(tunnel) => tunnel.pid(),
        }
    }

    /// Its last words.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        match self {
            Self::EdgeProxy(edgeproxy) => edgeproxy.tail(lines),
            Self::Other(tunnel) => tunnel.tail(lines),
        }
    }
}

/// The peers of these words; all if there are none.
///
/// # Errors
/// With the words there are, when one is none of them.
pub fn chosen(words: &[String]) -> Result<Vec<Peer>, String> {
    if words.is_empty() {
        return Ok(Peer::ALL.to_vec());
    }
    let known = Peer::ALL.map(Peer::word).join(", ");
    let one = |word: &String| {
        let found = Peer::ALL.into_iter().find(|peer| peer.word() == word);
        found.ok_or_else(|| format!("there is no peer {word:?}; there are {known}"))
    };
    words.iter().map(one).collect()
}

/// Asks the binary itself whether it knows what it would be told.
fn edgeproxy(work: &Path) -> Result<Found, String> {
    let told = |error: io::Error| error.to_string();
    let program = binary::edgeproxy().map_err(told)?;
    let keys = Keys { left: KeyPair::generate().map_err(told)?, right: KeyPair::generate().map_err(told)? };
    let file = work.join("check.yaml");
    let text = complete(&configuration(Side::Left, &keys), &work.join("check.sock"));
    std::fs::write(&file, text).map_err(told)?;
    std::fs::write(work.join("backhaul.key"), keys.left.private()).map_err(told)?;
    let checked = Command::new(&program).arg("check").arg(&file).output().map_err(told)?;
    if !checked.status.success() {
        let said = [checked.stdout, checked.stderr].concat();
        return Err(format!("{} refuses: {}", program.display(), String::from_utf8_lossy(&said).trim()));
    }
    let output = Command::new(&program).arg("--version").output().map_err(told)?;
    let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("edgeproxy ").to_owned();
    Ok(Found { version })
}

/// edgeproxy as it is shipped, with the userspace plane. Nobody answers at its neighbor and its backend.
fn configuration(side: Side, keys: &Keys) -> String {
    let (number, far) = (side.number(), side.far());
    format!(
        "generation: 1
pop: {{ id: bench{number}, region: eu }}
bgp:
  asn: 64512
  router_id: 192.0.2.1{number}
  neighbors: [{{ name: transit-a, address: 127.0.9.1, asn: 64500 }}]
anycast:
  - {{ prefix: 198.51.100.0/24, addresses: [198.51.100.1], services: [web] }}
services:
  - name: web
    backends: [{{ id: web-1, address: 127.0.0.1, port: 8080 }}]
    health: {{ tcp: {{}}, interval: 5s }}
backhaul:
  fleet: fd5a:1c7e:92b4::/48
  number: {number}
  private_key_file: backhaul.key
  backend: userspace
  listen: {PORT}
  mtu: {MTU}
  peers:
    - pop: bench{}
      region: eu
      number: {}
      public_key: {}
      endpoints: [\"{}:{PORT}\"]
",
        far.number(),
        far.number(),
        far.own(keys).public(),
        far.outside(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_have_addresses_of_the_plan() {
        assert_eq!(Side::Left.inside().to_string(), "fd5a:1c7e:92b4:1011::1");
        assert_eq!(Side::Right.inside().to_string(), "fd5a:1c7e:92b4:1021::1");
        for side in [Side::Left, Side::Right] {
            let subnet: ipnetwork::Ipv6Network = side.subnet().parse().unwrap();
            assert!(subnet.contains(side.inside()) && !subnet.contains(side.far().inside()));
        }
        assert!(chosen(&["kernel".to_owned()]).unwrap_err().contains("boringtun"));
    }
}
