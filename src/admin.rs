//! How operators ask and command the running process: HTTP over a Unix socket, and what the command line makes of it.

mod choice;
pub mod client;
pub mod follow;
mod fresh;
pub mod query;
mod roll_call;
pub mod routes;
pub mod screen;
pub mod server;
mod socket;
pub mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::observe::journal::Entry;
use crate::observe::journal::recent::Recent;
use crate::observe::metrics::Recorder;
use crate::observe::status::backhaul::BackhaulStatus;
use crate::observe::status::choice::ChoiceCall;
use crate::observe::status::fleet::FleetStatus;
use crate::observe::status::traffic::{CertificateStatus, ConnectionStatus, ProxyStatus, RollCall};
use crate::observe::status::{NeighborStatus, PrefixStatus, ProcessStatus, SentRoute, ServiceStatus};

/// What the room is given. Publishers fill the ages in their documents when they publish, and
/// publish at least every second; [`routes::STALE_AFTER`] later they are taken for hung.
#[derive(Debug, Clone)]
pub struct Inputs {
    pub process: watch::Receiver<Arc<ProcessStatus>>,
    pub neighbors: watch::Receiver<Arc<Vec<Arc<NeighborStatus>>>>,
    pub prefixes: watch::Receiver<Arc<Vec<PrefixStatus>>>,
    pub services: watch::Receiver<Arc<Vec<ServiceStatus>>>,
    pub proxy: watch::Receiver<Arc<ProxyStatus>>,
    /// None: there is no backhaul.
    pub backhaul: Option<watch::Receiver<Arc<BackhaulStatus>>>,
    /// None: this POP belongs to no fleet.
    pub fleet: Option<watch::Receiver<Arc<FleetStatus>>>,
    /// One for each worker of the proxy; a worker that hangs answers nothing.
    pub roll_calls: Vec<mpsc::Sender<RollCall>>,
    /// Where clients would be taken; the data plane answers.
    pub choices: mpsc::Sender<ChoiceCall>,
    /// Published when there are new entries, and only then.
    pub events: watch::Receiver<Arc<Recent>>,
    pub recorder: Recorder,
    /// Bounded. When it is full the operator is told that the process is busy.
    pub commands: mpsc::Sender<Command>,
}

/// A command on its way to whoever obeys it, who answers within [`server::COMMAND_TIME`].
#[derive(Debug)]
pub struct Command {
    pub ask: Ask,
    /// What was done, or why it was refused, in words.
    pub reply: oneshot::Sender<Result<Told, String>>,
}

/// What an operator may ask the process to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Read the configuration again and apply it. The answer says what changed, or all problems.
    Reload,
    /// Compare a configuration, given as text, to the one in force, changing nothing.
    Diff {
        text: String,
        /// The directory of the file, for the files it names.
        base: PathBuf,
    },
    /// Drain a prefix, by its text or an address in it, or `all` of them.
    Drain {
        prefix: String,
        /// None: that of the configuration.
        deadline: Option<Duration>,
        reason: String,
        /// Even if the fleet needs it announced.
        force: bool,
    },
    /// Take a drain back.
    Undrain { prefix: String },
    /// Tell all POPs something; nothing takes it back.
    Note { text: String },
    /// Say what a configuration would do to every prefix and neighbor, changing nothing.
    Plan(Offered),
    /// Put a configuration in force, for good or until it is confirmed.
    Apply {
        offered: Offered,
        /// Undone after this time unless it is confirmed. None: it is confirmed at once.
        confirm_within: Option<Duration>,
        /// Prefixes may go dark.
        allow_withdraw: bool,
    },
    /// Keep what waits for its confirmation.
    Confirm,
    /// End what waits for its confirmation, or go back to a stored generation.
    Rollback { to: Option<u64>, allow_withdraw: bool },
}

/// A configuration as an operator hands it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    pub text: String,
    /// The directory of the file, for the files it names.
    pub base: PathBuf,
    /// Detached, in base64.
    pub signature: Option<String>,
}

/// An answer for people and the same for machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub text: String,
    pub document: serde_json::Value,
}

/// Everything the process says about itself: the document of `/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Status {
    pub process: ProcessStatus,
    pub neighbors: Vec<Arc<NeighborStatus>>,
    pub prefixes: Vec<PrefixStatus>,
    pub services: Vec<ServiceStatus>,
    /// What clients are shown.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backhaul: Option<Arc<BackhaulStatus>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Arc<FleetStatus>>,
}

/// Why a prefix is as it is: the document of `/v1/explain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub prefix: PrefixStatus,
    /// The services it depends on.
    pub services: Vec<ServiceStatus>,
    /// What each neighbor was told about it.
    pub neighbors: Vec<TellsNeighbor>,
    /// The last that the journal has about it, oldest first.
    pub history: Vec<Entry>,
}

/// Open connections, the oldest first: the document of `/v1/connections`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    pub connections: Vec<ConnectionStatus>,
    /// Workers that did not answer.
    pub silent_workers: Vec<usize>,
}

/// What happened: the document of `/v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Ask for what is after this to go on. Lower than what was asked for where the numbers began anew.
    pub seq: u64,
}

/// What one neighbor was told about one prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TellsNeighbor {
    pub name: String,
    pub address: String,
    pub state: String,
    pub problem: Option<String>,
    /// None: nothing, or it was withdrawn.
    pub sent: Option<SentRoute>,
}

/// Why the room, or a conversation with it, failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("another edgeproxy already answers at {0}: stop it first, or give this one its own admin.socket")]
    AlreadyRunning(PathBuf),
    #[error("{0} exists and is not a socket: remove it, or choose another admin.socket")]
    NotASocket(PathBuf),
    #[error("the socket {path} cannot be opened: {cause}")]
    Socket { path: PathBuf, cause: std::io::Error },
    #[error("{address} cannot be listened on for metrics: {cause}; choose another observe.metrics, or `off`")]
    Metrics { address: SocketAddr, cause: std::io::Error },
    #[error(
        "edgeproxy is not running here ({why} at {socket}): start it with `edgeproxy run FILE`, or name its socket with --socket"
    )]
    NotRunning { socket: PathBuf, why: &'static str },
    #[error("the socket {0} may not be used by this user: run the command as root")]
    Permission(PathBuf),
    #[error("edgeproxy does not answer at {0} within {1} s: it may be hung or very busy; look at its log")]
    NoAnswer(PathBuf, u64),
    #[error("what answers at {socket} is not understood: {why}")]
    NotUnderstood { socket: PathBuf, why: String },
    /// The process said no; the words are its own.
    #[error("{0}")]
    Refused(String),
}

#[cfg(test)]
impl Status {
    /// One POP with every kind of thing in it.
    fn sample() -> Self {
        use crate::observe::samples::{certificates, neighbors, prefixes, process, services};
        Self {
            process: process(),
            neighbors: neighbors(),
            prefixes: prefixes(),
            services: services(),
            certificates: certificates(),
            backhaul: None,
            fleet: None,
        }
    }
}
