//! The `proxy` section: the data plane as a whole; what belongs to one listener stands with its service.

use std::path::PathBuf;
use std::time::Duration;

/// The data plane of the process.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Worker threads, 1 to 256. Default: one for each processor.
    pub workers: Option<u16>,
    pub lease: Lease,
    /// Connections of clients at once, over all listeners. 1 to 4,000,000; default 500,000.
    pub connections: u32,
    /// TLS handshakes in progress at once, over all listeners. 1 to 100,000; default 2,048.
    pub handshakes: u32,
    /// What rests in the proxy's own buffers may come to so many octets. 16 MiB to 1 TiB; default 512 MiB.
    pub memory: u64,
    /// A planned stop serves what is open for so long after the withdrawal, then resets it. 0 s to 1 h; default 10 s.
    pub drain: Duration,
    pub access_log: AccessLog,
    /// A MaxMind database (mmdb) that tells countries of clients. Default: none.
    pub geo: Option<PathBuf>,
    /// Session ticket keys are made anew this often; the two before are still taken. 1 min to 7 days; default 6 h.
    pub ticket_rotation: Duration,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            workers: None,
            lease: Lease::default(),
            connections: 500_000,
            handshakes: 2_048,
            memory: 512 << 20,
            drain: Duration::from_secs(10),
            access_log: AccessLog::default(),
            geo: None,
            ticket_rotation: Duration::from_secs(6 * 3600),
        }
    }
}

/// How long what was served proves that this POP serves (decision rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Each worker must serve once in this time. Never shorter in effect than four times the p99.99 of its own
    /// renewal jitter. 20 ms to 1 min; default 60 ms.
    pub time: Duration,
    /// How often a connection of our own goes through every listener to a backend. 100 ms to 1 min; default 1 s.
    pub probe_interval: Duration,
    /// How long such a connection may take. 10 ms to 10 s; default 500 ms.
    pub probe_timeout: Duration,
    /// So many in a row must fail before the listener counts as not serving. 1 to 100; default 3.
    pub probe_fall: u32,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(60),
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            probe_fall: 3,
        }
    }
}

/// Which connections are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessLog {
    /// One in so many of those that ended well; 0: none. Default 0. Those that did not are all logged.
    pub every: u32,
    /// At most so many lines a second; what is left out is counted. 0 to 100,000; default 50. 0: no access log.
    pub rate: u32,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { every: 0, rate: 50 }
    }
}
