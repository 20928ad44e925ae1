//! The `services` section: backends, how they are checked, and how many are enough.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One service: backends behind one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Unique: 1 to 63 of `a-z 0-9 -`, starting with a letter.
    pub name: String,
    pub watermark: Watermark,
    /// By the order of the file; never empty, at most 4096; ids are unique in the service.
    pub backends: Vec<Backend>,
    pub check: Check,
}

/// Where work can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// 1 to 63 of `a-z A-Z 0-9 . _ -`.
    pub id: String,
    pub address: IpAddr,
    pub port: u16,
    /// Default: the POP's region.
    pub region: String,
    /// 1 to 1000; default 2.
    pub weight: u32,
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
    /// Where a backend is probed.
    #[must_use]
    pub fn target(&self, backend: &Backend) -> SocketAddr {
        SocketAddr::new(backend.address, self.port.unwrap_or(backend.port))
    }

    /// Whether another check asks the same question of its backend at the same place, so that what is known
    /// of this one stays true. How often and how many times it is asked does not matter.
    #[must_use]
    pub fn asks_the_same(&self, backend: &Backend, other: &Self, its: &Backend) -> bool {
        self.target(backend) == other.target(its) && self.probe == other.probe && self.source == other.source
    }
}
