//! The `observe` section: metrics and logs.

use std::net::SocketAddr;

/// Metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observe {
    /// Where `/metrics` and `/healthz` are served; `off` in the file is None. Default `127.0.0.1:9090`.
    pub metrics: Option<SocketAddr>,
    pub log: Log,
}

/// How much is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Default info.
    pub level: LogLevel,
    /// Default text.
    pub format: LogFormat,
}

/// The least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            log: Log { level: LogLevel::Info, format: LogFormat::Text },
        }
    }
}
