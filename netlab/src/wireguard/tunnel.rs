//! A tunnel of another implementation as a host's process: told and asked through `wg`, killed, stopped, started again.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::program::{self, Found, Program};
use crate::moment::Moment;
use crate::namespace::Namespace;
use crate::process::{self, Process};

/// How long a start may take; both cores may be busy.
const START: Duration = Duration::from_secs(10);
/// How long `wg` may take.
const ASK: Duration = Duration::from_secs(5);

/// One end of tunnels.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelConfig {
    #[serde(default)]
    pub program: Program,
    #[serde(default = "wg0")]
    pub interface: String,
    /// Base64.
    pub private_key: String,
    #[serde(default = "port")]
    pub listen: u16,
    #[serde(default = "mtu")]
    pub mtu: u16,
    /// Addresses inside, with their prefix lengths.
    #[serde(default)]
    pub addresses: Vec<String>,
    pub peers: Vec<PeerConfig>,
    /// Started with the lab. Default true.
    #[serde(default = "yes")]
    pub start: bool,
}

/// One peer of an end. What it may send from is routed to it, unless told otherwise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerConfig {
    /// For the scenario alone.
    pub name: String,
    /// Base64.
    pub public_key: String,
    pub preshared_key: Option<String>,
    pub allowed_ips: Vec<IpNetwork>,
    /// Where it is; without it, it calls us.
    pub endpoint: Option<SocketAddr>,
    /// Seconds.
    pub keepalive: Option<u16>,
    #[serde(default = "yes")]
    pub routes: bool,
}

/// What an end knows of a peer, as `wg show … dump` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    pub public_key: String,
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake was, in whole seconds; none yet: `None`.
    pub handshake_age: Option<Duration>,
    /// Octets inside.
    pub received: u64,
    pub sent: u64,
}

/// A running end. Dropping it kills it.
#[derive(Debug)]
pub struct Tunnel {
    namespace: Namespace,
    config: TunnelConfig,
    found: Found,
    work_dir: PathBuf,
    process: Option<Process>,
}

impl Tunnel {
    /// Nothing is started yet; its files are in `work_dir`, which is made if missing.
    ///
    /// # Errors
    /// When a program is not there, with what to do.
    pub fn new(namespace: &Namespace, work_dir: &Path, config: TunnelConfig) -> io::Result<Self> {
        let found = config.program.find().map_err(io::Error::other)?;
        program::tools().map_err(io::Error::other)?;
        let work_dir = std::path::absolute(work_dir)?;
        std::fs::create_dir_all(&work_dir)?;
        Ok(Self { namespace: namespace.clone(), config, found, work_dir, process: None })
    }

    /// As it was told to be.
    #[must_use]
    pub fn config(&self) -> &TunnelConfig {
        &self.config
    }

    /// Starts it, configures it, gives it its addresses and routes. It dies with the thread that called.
    ///
    /// # Errors
    /// When it runs already, ends, or refuses its configuration, with its last words.
    pub fn start(&mut self) -> io::Result<Moment> {
        if self.pid().is_some() {
            return Err(io::Error::other(format!("the tunnel of {} runs already", self.namespace.name())));
        }
        let interface = self.config.interface.clone();
        let mut command = self.namespace.command(&self.found.path);
        command.args(self.config.program.arguments(&interface)).current_dir(&self.work_dir);
        command.stdin(Stdio::null()).env("LOG_LEVEL", "error").env("WG_PROCESS_FOREGROUND", "1");
        let at = Moment::now();
        self.process =
            Some(Process::start(self.namespace.name(), command, &self.work_dir.join("tunnel.log"))?);
        let deadline = Instant::now() + START;
        while let Err(error) = self.wg(&["show", &interface, "listen-port"]) {
            if self.pid().is_none() || Instant::now() >= deadline {
                return Err(io::Error::other(format!("{error}\nits last words:\n{}", self.tail(10))));
            }
            thread::sleep(Duration::from_millis(10));
        }
        let file = self.work_dir.join("tunnel.conf");
        std::fs::write(&file, configuration(&self.config))?;
        self.wg(&["setconf", &interface, &file.display().to_string()])?;
        self.dress(&interface)?;
        Ok(at)
    }

    /// Addresses and routes; the interface comes and goes with the process.
    fn dress(&self, interface: &str) -> io::Result<()> {
        for address in &self.config.addresses {
            let mut arguments = vec!["addr", "add", address, "dev", interface];
            if address.contains(':') {
                arguments.push("nodad");
            }
            self.namespace.ip(&arguments)?;
        }
        let mtu = self.config.mtu.to_string();
        self.namespace.ip(&["link", "set", interface, "mtu", &mtu, "up"])?;
        for peer in self.config.peers.iter().filter(|peer| peer.routes) {
            for network in &peer.allowed_ips {
                let family = if network.is_ipv6() { "-6" } else { "-4" };
                let network = network.to_string();
                self.namespace.ip(&[family, "route", "replace", &network, "dev", interface])?;
            }
        }
        Ok(())
    }

    /// Runs `wg` where this end's socket is; what it said.
    ///
    /// # Errors
    /// With what it said instead.
    pub fn wg(&self, arguments: &[&str]) -> io::Result<String> {
        let process = self.process.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{} runs no tunnel", self.namespace.name()))
        })?;
        // Every process of the lab has a /run of its own, and the socket is in it.
        let mut command = self.namespace.short_command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", process.pid())).arg("wg").args(arguments);
        let output = process::output(command, ASK)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "{}: wg {}: {}",
            self.namespace.name(),
            arguments.join(" "),
            said.trim()
        )))
    }

    /// What it knows of the peer of this name.
    ///
    /// # Errors
    /// When there is none, or `wg` does not answer.
    pub fn peer(&self, name: &str) -> io::Result<PeerState> {
        let named = self.config.peers.iter().find(|peer| peer.name == name);
        let named = named.ok_or_else(|| {
            io::Error::other(format!("the tunnel of {} has no peer {name}", self.namespace.name()))
        })?;
        let dump = self.wg(&["show", &self.config.interface, "dump"])?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let found = dump.lines().skip(1).filter_map(|line| state(line, now));
        let found = found.into_iter().find(|state| state.public_key == named.public_key);
        found.ok_or_else(|| io::Error::other(format!("wg does not know the peer {name}:\n{dump}")))
    }

    /// The process's pid while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        let process = self.process.as_mut()?;
        process.is_running().then(|| process.pid())
    }

    /// Its process.
    ///
    /// # Errors
    /// When it was never started.
    pub fn process_mut(&mut self) -> io::Result<&mut Process> {
        let name = self.namespace.name();
        self.process
            .as_mut()
            .ok_or_else(|| io::Error::other(format!("the tunnel of {name} was never started")))
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        self.process.as_ref().map_or_else(String::new, |process| process.tail(lines))
    }
}

/// As wg(8) reads it, in its section on configuration files.
fn configuration(config: &TunnelConfig) -> String {
    let mut text =
        format!("[Interface]\nPrivateKey = {}\nListenPort = {}\n", config.private_key, config.listen);
    for peer in &config.peers {
        let networks: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        text += &format!("[Peer]\nPublicKey = {}\nAllowedIPs = {}\n", peer.public_key, networks.join(", "));
        if let Some(key) = &peer.preshared_key {
            text += &format!("PresharedKey = {key}\n");
        }
        if let Some(endpoint) = &peer.endpoint {
            text += &format!("Endpoint = {endpoint}\n");
        }
        if let Some(seconds) = &peer.keepalive {
            text += &format!("PersistentKeepalive = {seconds}\n");
        }
    }
    text
}

/// A line about a peer in `wg show INTERFACE dump`: public-key, preshared-key, endpoint, allowed-ips, latest-handshake
/// (seconds since 1970, 0 for none), transfer-rx, transfer-tx, persistent-keepalive.
fn state(line: &str, now: Duration) -> Option<PeerState> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [public_key, _, endpoint, _, handshake, received, sent, _] = fields[..] else { return None };
    let handshake = handshake.parse::<u64>().ok().filter(|seconds| *seconds > 0);
    Some(PeerState {
        public_key: public_key.to_owned(),
        endpoint: endpoint.parse().ok(),
        handshake_age: handshake.map(|at| Duration::from_secs(now.as_secs().saturating_sub(at))),
        received: received.parse().ok()?,
        sent: sent.parse().ok()?,
    })
}

fn wg0() -> String {
    "wg0".to_owned()
}

fn port() -> u16 {
    51_820
}

/// What is left of 1,500 octets outside over IPv6.
fn mtu() -> u16 {
    1_420
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read() {
        let now = Duration::from_secs(1_000);
        let read = |line| state(line, now);
        let fresh = read("KEY=\t(none)\t192.0.2.1:51820\tfd00::/60\t990\t148\t92\toff").unwrap();
        assert_eq!(fresh.endpoint, Some("192.0.2.1:51820".parse().unwrap()));
        assert_eq!(
            (fresh.handshake_age, fresh.received, fresh.sent),
            (Some(Duration::from_secs(10)), 148, 92)
        );
        let silent = read("KEY=\t(none)\t(none)\t(none)\t0\t0\t0\t25").unwrap();
        assert_eq!((silent.endpoint, silent.handshake_age), (None, None));
        assert_eq!(read("PRIVATE\tPUBLIC\t51820\toff"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_configuration_says_what_wg_reads() {
        let config: TunnelConfig = serde_yaml::from_str(
            "private_key: A\nlisten: 7\npeers:\n  - { name: b, public_key: B, allowed_ips: [fd00::/60, 10.0.0.0/8], endpoint: '[2001:db8::1]:9', keepalive: 5 }\n",
        )
        .unwrap();
        assert_eq!(
            configuration(&config),
            "[Interface]\nPrivateKey = A\nListenPort = 7\n[Peer]\nPublicKey = B\nAllowedIPs = fd00::/60, 10.0.0.0/8\nEndpoint = [2001:db8::1]:9\nPersistentKeepalive = 5\n"
        );
        assert_eq!(
            (config.interface.as_str(), config.mtu, config.program),
            ("wg0", 1_420, Program::WireguardGo)
        );
    }
}
