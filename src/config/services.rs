//! The `services` section: backends, how they are checked, and how many are enough.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::listen::Listen;

/// One service: backends behind one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Unique: 1 to 63 of `a-z 0-9 -`, starting with a letter.
    pub name: String,
    pub watermark: Watermark,
    /// By the order of the file; never empty, at most 4096; ids are unique in the service.
    pub backends: Vec<Backend>,
    /// Whether the backends that other POPs of the fleet have in their service of this name serve too. Default false;
    /// it needs `backhaul` and `replication`.
    pub from_fleet: bool,
    pub check: Check,
    /// Where the proxy takes clients in. Default: nowhere, the service is only checked.
    pub listen: Vec<Listen>,
    pub forwarding: Forwarding,
}

/// How the proxy takes clients to backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// A client's address (IPv6: its /64) stays with its backend until it was away for this long. None: every
    /// connection chooses anew. 1 s to 24 h; default None; v1's was 600 s.
    pub affinity: Option<Duration>,
    /// A backend that came up gets its full share only after this. 0 s (default) to 1 h.
    pub slow_start: Duration,
    /// With a smaller share of healthy backends than this, all are used. 0 to 100 %; default 0: never.
    pub panic: u8,
    /// What a backend is told first. Default: nothing.
    pub send_proxy: SendProxy,
    pub timeouts: Timeouts,
    /// How many backends one connection may try. 1 to 16; default 3.
    pub attempts: u32,
    /// Further attempts over first ones, in percent, with a few always free. 0 to 100; default 20.
    pub retry_budget: u8,
    /// None: failures of connections eject nobody.
    pub ejection: Option<Ejection>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            affinity: None,
            slow_start: Duration::ZERO,
            panic: 0,
            send_proxy: SendProxy::Off,
            timeouts: Timeouts::default(),
            attempts: 3,
            retry_budget: 20,
            ejection: Some(Ejection::default()),
        }
    }
}

/// The PROXY header that backends are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendProxy {
    #[default]
    Off,
    V1,
    /// With TLVs: ALPN, the server name, TLS, and the POP's id.
    V2,
}

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt to reach a backend. 1 ms to 60 s; default 1 s.
    pub connect: Duration,
    /// All attempts together. `connect` to 10 min; default 3 s, or `connect` if that is more.
    pub deadline: Duration,
    /// From the accept to the end of the PROXY header, ClientHello and TLS handshake. 10 ms to 5 min; default 10 s.
    pub handshake: Duration,
    /// Without an octet either way. 100 ms to 7 days; 0: for ever. Default 1 h.
    pub idle: Duration,
    /// The same for a flow of UDP, which has no end of its own. 100 ms to 1 h; default 30 s.
    pub udp_idle: Duration,
    /// The same once one side has finished. 100 ms to 24 h; default 5 min.
    pub half_closed: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            deadline: Duration::from_secs(3),
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(3600),
            udp_idle: Duration::from_secs(30),
            half_closed: Duration::from_secs(300),
        }
    }
}

/// When a backend's failures to serve take it out of choice (passive health).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row: refused, timed out, reset before the first octet. 1 to 1,000; default 5.
    pub failures: u32,
    /// How long it stays out the first time; doubles with each further one. 100 ms to 1 h; default 10 s.
    pub time: Duration,
    /// Never longer than this. `time` to 24 h; default 300 s.
    pub max_time: Duration,
    /// At most this share of a service's backends is out at once, but always one may be. 0 to 100 %; default 50.
    pub share: u8,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, time: Duration::from_secs(10), max_time: Duration::from_secs(300), share: 50 }
    }
}

/// Where work can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// 1 to 63 of `a-z A-Z 0-9 . _ -`; `ID@POP` if the fleet tells of it.
    pub id: String,
    /// With `via_ingress` that of its POP's ingress.
    pub address: IpAddr,
    pub port: u16,
    /// The POP that owns it, a peer of the backhaul. None: ours.
    pub pop: Option<String>,
    /// Reached through the ingress of its POP, with PROXY v2, over TCP only; otherwise `address` is the backend's own.
    pub via_ingress: bool,
    /// Default: the region of its POP.
    pub region: String,
    /// 1 to 1000; default 2.
    pub weight: u32,
    /// Connections that count as full when backends are compared. 1 to 1,000,000; default 100, or `hard_limit` if
    /// that is less.
    pub soft_limit: u32,
    /// More connections than this are never given to it. `soft_limit` to 1,000,000; 0: no limit; default 150, or
    /// `soft_limit` if that is more.
    pub hard_limit: u32,
    /// Where it stands: an ISO 3166-1 code of two letters, lower case.
    pub country: Option<String>,
    /// Serves what it has, and gets nothing new. Default false.
    pub drain: bool,
}

impl Backend {
    /// Whether the fleet tells of it, and not the configuration: its weight counts while it is healthy, and nobody
    /// misses it otherwise.
    #[must_use]
    pub fn is_from_fleet(&self) -> bool {
        self.id.contains('@')
    }
}

/// The id of a backend at the POP that owns it.
#[must_use]
pub fn id_at_its_pop(id: &str) -> &str {
    id.split_once('@').map_or(id, |(id, _)| id)
}

/// How much healthy weight is enough. `low <= high <= degrade` once percentages are counted out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// At or under it the service is down, unless it is at `high`. Default 1.
    pub low: Level,
    /// At or over it the service comes up. Default 1.
    pub high: Level,
    /// Under it, but over `low`, the prefix is announced de-preferred. Default: never.
    pub degrade: Option<Level>,
}

impl Default for Watermark {
    fn default() -> Self {
        Self { low: Level::Weight(1), high: Level::Weight(1), degrade: None }
    }
}

/// A level of healthy weight: absolute, or a share of the service's whole weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Weight(u32),
    /// 0 to 100.
    Percent(u8),
}

impl Level {
    /// The level as weight, percentages rounded up.
    #[must_use]
    pub fn of(self, total: u32) -> u32 {
        match self {
            Self::Weight(weight) => weight,
            Self::Percent(percent) => (u64::from(total) * u64::from(percent)).div_ceil(100) as u32,
        }
    }
}

/// How backends of a service are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub probe: Probe,
    /// From the start of one probe to the start of the next. 5 ms to 1 h; default 1 s.
    pub interval: Duration,
    /// The interval while a verdict is about to change. Default: interval / 10, at least 5 ms, never over `interval`.
    pub fast_interval: Duration,
    /// The deadline of one probe as a whole. 1 ms to 60 s; default 500 ms.
    pub timeout: Duration,
    /// Successes in a row that prove a backend up. 1 to 100; default 2.
    pub rise: u32,
    /// Failures in a row that prove it down. 1 to 100; default 3.
    pub fall: u32,
    /// The address probes start from. Default: the kernel chooses.
    pub source: Option<IpAddr>,
    /// The port probed. Default: the backend's.
    pub port: Option<u16>,
    /// Keep one idle connection beside polling, and probe at once when it ends. Default true.
    pub held_connection: bool,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Nothing: there are no probes, and every backend counts as up.
    Off,
    /// A TCP handshake.
    Tcp,
    /// One HTTP/1.1 request.
    Http(HttpProbe),
}

/// One HTTP/1.1 request and what its answer must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Default `GET`; a token of capital letters.
    pub method: String,
    /// Starts with `/`. Default `/`.
    pub path: String,
    /// The `Host` header. Default: the backend's address and port.
    pub host: Option<String>,
    /// Statuses that count as success. Default 2xx.
    pub expect: StatusSet,
    /// Text that the first 64 KiB of the body must contain.
    pub body: Option<String>,
}

/// A set of HTTP statuses as inclusive ranges inside 100..=599, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(pub Vec<(u16, u16)>);

impl StatusSet {
    /// Whether a status is in the set.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&status))
    }
}

impl Check {
    /// Whether nothing is asked, so that every backend counts as up.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.probe == Probe::Off
    }

    /// What is asked of this backend, if it is something else: behind the ingress of another POP only the ingress can
    /// be asked. That POP asks the backend itself, and tells.
    #[must_use]
    pub fn of(&self, backend: &Backend) -> Option<Self> {
        let ingress = backend.via_ingress && !self.is_off();
        ingress.then(|| Self { probe: Probe::Tcp, source: None, held_connection: false, ..self.clone() })
    }

    /// Where a backend is probed.
    #[must_use]
    pub fn target(&self, backend: &Backend) -> SocketAddr {
        // An ingress has one port, whatever that of the backend behind it is.
        let port = self.port.filter(|_| !backend.via_ingress);
        SocketAddr::new(backend.address, port.unwrap_or(backend.port))
    }

    /// Whether another check asks the same question of its backend at the same place, so that what is known
    /// of this one stays true. How often and how many times it is asked does not matter.
    #[must_use]
    pub fn asks_the_same(&self, backend: &Backend, other: &Self, its: &Backend) -> bool {
        self.target(backend) == other.target(its)
            && self.probe == other.probe
            && self.source == other.source
            && backend.pop == its.pop
    }
}
