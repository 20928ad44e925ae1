//! The `admin` section: how operators talk to the process, and what they may do by accident.

use std::path::PathBuf;

use super::signature::OperatorKey;

/// Where commands are taken, and which configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket, mode 0600. Default `/run/edgeproxy/edgeproxy.sock`.
    pub socket: PathBuf,
    /// Who must have signed a configuration that replaces this one. Default: nobody needs to.
    pub operator_key: Option<OperatorKey>,
    /// How many announced prefixes a new configuration may withdraw from everybody without being
    /// told that it is meant. 0 to 1024; default 0.
    pub max_darkened: u32,
}

impl Default for Admin {
    fn default() -> Self {
        let socket = PathBuf::from("/run/edgeproxy/edgeproxy.sock");
        Self { socket, operator_key: None, max_darkened: 0 }
    }
}
