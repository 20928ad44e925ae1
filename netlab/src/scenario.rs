//! The words of a scenario file: hosts, links, captures, and steps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer};

use crate::node::exabgp::HealthCheck;
use crate::node::router::RouterConfig;
use crate::service::ServiceConfig;

/// A whole scenario, or a topology when it has no steps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub scenario: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// After this the scenario has failed. Default 3 min.
    #[serde(default = "three_minutes", deserialize_with = "duration")]
    pub deadline: Duration,
    pub hosts: BTreeMap<String, Host>,
    #[serde(default)]
    pub links: Vec<Link>,
    #[serde(default)]
    pub captures: BTreeMap<String, Capture>,
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One network namespace and what runs in it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    /// Forwards packets between its links.
    pub forward: bool,
    /// Addresses on its loopback, with prefix lengths.
    pub loopback: Vec<String>,
    /// Arguments of `ip route add` after `add`.
    pub routes: Vec<String>,
    pub bird: Option<RouterConfig>,
    pub frr: Option<RouterConfig>,
    pub gobgp: Option<RouterConfig>,
    pub exabgp: Option<ExabgpConfig>,
    pub collector: Option<CollectorConfig>,
    pub edgeproxy: Option<EdgeProxyConfig>,
    pub services: Vec<ServiceConfig>,
}

/// ExaBGP with its health check: the peer of a bench.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExabgpConfig {
    pub router: RouterConfig,
    pub check: HealthCheck,
}

/// netlab's own BGP neighbor, which stamps what it reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorConfig {
    pub asn: u32,
    pub router_id: Ipv4Addr,
    pub listen: SocketAddr,
}

/// The process under test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeProxyConfig {
    /// Its YAML, without `admin` and `observe`, which the lab adds.
    pub config: String,
    /// Files beside it: name to content.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Started with the lab. Default true.
    #[serde(default = "yes")]
    pub start: bool,
}

/// A veth pair.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub ends: [LinkEnd; 2],
}

/// One end of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEnd {
    pub host: String,
    pub interface: String,
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// What is captured, where.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    pub host: String,
    pub interface: String,
    /// TCP ports besides BGP's.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Addresses whose arriving packets are counted with their times.
    #[serde(default)]
    pub tally: Vec<IpAddr>,
}

/// One step; one of its words.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Printed.
    Say(String),
    Do(Action),
    Expect(Box<Expect>),
    /// Runs its steps several times.
    Repeat {
        times: u32,
        steps: Vec<Step>,
    },
    Measure(Box<Measure>),
    Ratio(Ratio),
    /// Processor seconds that the router or edgeproxy of a host has used, with all its children.
    Cpu {
        figure: String,
        of: String,
    },
    /// One figure over what a traffic client sent.
    Share(Share),
}

/// The share of a client's datagrams that anybody answered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub figure: String,
    pub traffic: String,
    /// A mark. Default: since the client started.
    #[serde(default)]
    pub since: Option<String>,
    #[serde(default)]
    pub goal: Option<String>,
    /// A smaller share fails: behaviour, not a goal.
    pub least: f64,
}

/// The ratio of two figures' medians.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    pub figure: String,
    pub of: String,
    pub over: String,
    #[serde(default)]
    pub goal: Option<String>,
}

/// Something done to the lab.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// SIGKILL; `HOST` is its router or edgeproxy, `HOST/SERVICE` a service.
    Kill(String),
    /// SIGKILL to everything in a host at once, as when its power fails.
    KillAll(String),
    /// SIGSTOP and SIGCONT.
    Stop(String),
    Cont(String),
    /// Starts again what ended.
    Start(String),
    /// SIGTERM to edgeproxy; waits for its exit code.
    Terminate {
        at: String,
        #[serde(default)]
        code: i32,
    },
    /// How a service behaves from here on.
    Set(SetService),
    /// Interface `HOST/INTERFACE` down or up.
    Link {
        interface: String,
        up: bool,
    },
    /// SIGKILL to edgeproxy if it runs still, and a start with these variables besides its own.
    Restart {
        at: String,
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
    Config(NewConfig),
    /// Gives edgeproxy every file of a directory; each must be refused whole, naming a line.
    RefuseAll {
        at: String,
        directory: String,
    },
    /// This many processes that only burn processor time, until changed.
    Busy(u32),
    #[serde(deserialize_with = "duration")]
    Wait(Duration),
    /// Remembers the moment under a name.
    Mark(String),
    /// Runs a shell command in a host; it must succeed.
    Run {
        at: String,
        command: String,
    },
    Traffic(Traffic),
    /// Prints what a router's table holds for a prefix.
    Show {
        at: String,
        prefix: String,
    },
    /// Prints who answered a client since it was last asked.
    Where(String),
}

/// A service's behaviour.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetService {
    pub service: String,
    pub status: Option<u16>,
    pub refuse: Option<bool>,
    pub hang: Option<bool>,
    /// Before each answer.
    #[serde(default, deserialize_with = "some_duration")]
    pub delay: Option<Duration>,
}

/// A new configuration for edgeproxy, and how it is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewConfig {
    pub at: String,
    /// Replaced in the text in force, each exactly once; nothing else changes.
    pub replace: Vec<Replace>,
    /// `signal`, `command`, or `none` (the file only).
    pub by: String,
}

/// One textual change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    pub from: String,
    pub to: String,
}

/// A datagram client, started or stopped.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub name: String,
    /// Starts it in this host; without it the client is stopped.
    pub from: Option<String>,
    pub target: Option<SocketAddr>,
    #[serde(default)]
    pub sources: Vec<SocketAddr>,
    #[serde(default)]
    pub rate: u32,
}

/// What must become true; exactly one of its words besides `within`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub route: Option<ExpectRoute>,
    pub session: Option<ExpectSession>,
    pub status: Option<ExpectStatus>,
    pub command: Option<ExpectCommand>,
    pub updates: Option<ExpectUpdates>,
    /// Each first occurrence after `since` must come after the one before it.
    pub order: Option<Order>,
    /// Polled for this long. Default 5 s.
    #[serde(default = "five_seconds", deserialize_with = "duration")]
    pub within: Duration,
}

/// A route in a router's table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectRoute {
    pub at: String,
    pub prefix: String,
    #[serde(default = "yes")]
    pub present: bool,
    pub next_hop: Option<String>,
    pub as_path: Option<Vec<u32>>,
    pub med: Option<u32>,
    pub communities: Option<Vec<String>>,
    pub large_communities: Option<Vec<String>>,
}

/// A session as a router sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectSession {
    pub at: String,
    pub neighbor: String,
    pub state: Option<String>,
    /// Anything but this state.
    pub not: Option<String>,
}

/// A place in edgeproxy's status document.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectStatus {
    pub at: String,
    /// JSON pointer; a part `name=web` picks the element of a list whose `name` is `web`.
    pub pointer: String,
    pub equals: Option<serde_json::Value>,
    pub contains: Option<String>,
    pub at_least: Option<f64>,
}

/// A command in a host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectCommand {
    pub at: String,
    pub run: String,
    #[serde(default)]
    pub code: i32,
    pub contains: Option<String>,
    pub lacks: Option<String>,
}

/// How many UPDATEs named a prefix in a capture since a mark.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectUpdates {
    pub capture: String,
    pub prefix: IpNetwork,
    pub since: String,
    pub count: usize,
}

/// Things in their order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub since: String,
    pub of: Vec<Happening>,
}

/// Something that can be found in what was recorded.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Happening {
    Bound {
        at: String,
        address: IpAddr,
    },
    Unbound {
        at: String,
        address: IpAddr,
    },
    /// A SYN-ACK from this port.
    Probed {
        capture: String,
        port: u16,
    },
    Announced {
        capture: String,
        prefix: IpNetwork,
    },
    Withdrawn {
        capture: String,
        prefix: IpNetwork,
    },
    /// A NOTIFICATION.
    Closed {
        capture: String,
    },
}

/// Rounds of an action and what follows from it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    pub rounds: u32,
    pub from: Action,
    pub outcomes: Vec<Outcome>,
    /// Brings the lab back to where a round begins.
    #[serde(default)]
    pub restore: Vec<Step>,
}

/// One thing that is timed in each round; exactly one of its words besides the figure's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub figure: String,
    #[serde(default)]
    pub goal: Option<String>,
    /// Read by a collector.
    pub withdrawn: Option<CollectorSees>,
    pub announced: Option<CollectorSees>,
    /// The last packet for an address that arrives at a capture.
    pub last_packet: Option<LastPacket>,
    /// No round may take longer: behaviour, not a goal. Default 10 s.
    #[serde(default = "ten_seconds", deserialize_with = "duration")]
    pub within: Duration,
}

/// A route change at a collector.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectorSees {
    pub at: String,
    pub prefix: IpNetwork,
}

/// The end of arrivals.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastPacket {
    pub capture: String,
    /// How long nothing must arrive for the last one to be the last.
    #[serde(deserialize_with = "duration")]
    pub quiet: Duration,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Words with the place of the first mistake.
    pub fn load(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_yaml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn yes() -> bool {
    true
}

fn three_minutes() -> Duration {
    Duration::from_secs(180)
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// `5s`, `250ms`, `2m`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(serde::de::Error::custom)?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err(serde::de::Error::custom(format!("{text:?} is not a duration such as 250ms, 5s or 2m"))),
    }
}
