//! The `admin` section: how operators talk to the process.

use std::path::PathBuf;

/// Where commands are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket, mode 0600. Default `/run/edgeproxy/edgeproxy.sock`.
    pub socket: PathBuf,
}

impl Default for Admin {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/edgeproxy/edgeproxy.sock") }
    }
}
