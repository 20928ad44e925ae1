//! The status documents: what each subsystem publishes and operators read, as JSON or as tables.
//!
//! They are plain data, so that a subsystem fills its own and `admin` shows all of them without
//! knowing any subsystem. Times are ages in milliseconds, because a monotonic instant means
//! nothing outside the process.

pub mod backhaul;
pub mod choice;
pub mod fleet;
pub mod traffic;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::journal::{CauseId, Route};

/// What the process as a whole is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ProcessStatus {
    pub version: String,
    pub pop: String,
    pub region: String,
    pub generation: u64,
    pub uptime_ms: u64,
    pub pid: u32,
    /// `starting`, `running` or `stopping`.
    pub phase: String,
    /// The last refused reload, with all its problems, until one succeeds.
    pub refused_reload: Option<String>,
    /// Threads that the watchdog finds to hang; systemd hears nothing meanwhile.
    pub hung_threads: Vec<String>,
    /// A configuration that is in force for a time only.
    pub pending: Option<PendingStatus>,
    /// What was undone because nobody confirmed it, until something else is accepted.
    pub undone: Option<String>,
    /// The leases of the proxy's workers; None while none of them is asked to serve.
    pub leases: Option<LeasesStatus>,
}

/// How the workers of the proxy renew their leases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeasesStatus {
    /// The lease in effect: as configured, or longer where renewals come too unevenly for that.
    pub lease_us: u64,
    /// By how much renewals come late, by quantile.
    pub jitter_us: Vec<(f64, u64)>,
    /// How long ago each worker served, in their order; None: not yet.
    pub age_us: Vec<Option<u64>>,
}

/// A configuration that waits for its confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingStatus {
    pub generation: u64,
    /// What is left of its time.
    pub confirm_within_ms: u64,
    /// What comes back after it.
    pub back_to: u64,
}

/// One neighbor's session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighborStatus {
    pub name: String,
    pub address: String,
    pub asn: u32,
    /// A state of RFC 4271 §8.2.2: `Idle Connect Active OpenSent OpenConfirm Established`.
    pub state: String,
    /// How long the session has been in this state.
    pub in_state_ms: u64,
    /// Why it is not Established, in plain words, and what to do; None while all is well.
    pub problem: Option<String>,
    /// How the last session or attempt ended, kept also while Established.
    pub last_error: Option<String>,
    pub local_address: Option<String>,
    pub remote_id: Option<String>,
    pub hold_time_s: Option<u16>,
    pub families: Vec<String>,
    /// Sessions that reached Established since the process started.
    pub established_count: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    pub updates_in: u64,
    pub updates_out: u64,
    /// Prefixes the neighbor announced and withdrew, all dropped (RFC 8212).
    pub prefixes_received: u64,
    pub prefixes_withdrawn: u64,
    /// UPDATEs taken as withdrawals because malformed (RFC 7606).
    pub treated_as_withdraw: u64,
    /// What this neighbor has been sent and not been withdrawn.
    pub announced: Vec<SentRoute>,
}

/// One route as it stands at a neighbor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SentRoute {
    pub prefix: String,
    /// Shared by all that were sent with the same.
    #[serde(flatten)]
    pub route: Arc<Route>,
    pub sent_ms_ago: u64,
}

/// One prefix's announcement: state, reason, since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrefixStatus {
    pub prefix: String,
    /// `announced`, `degraded`, `draining`, `held` or `withdrawn`.
    pub state: String,
    /// The rule's name, stable for machines: `healthy`, `below-watermark`, …
    pub reason: String,
    /// The reason as a sentence, with the check and its error.
    pub why: String,
    /// What would change it, as a sentence.
    pub change: String,
    pub since_ms: u64,
    /// Of the last change of what neighbors are told: `edgeproxy events` shows what belongs to it.
    pub cause: Option<CauseId>,
    pub addresses: Vec<AddressStatus>,
    pub services: Vec<String>,
    /// While an operator drains it.
    pub drain: Option<DrainStatus>,
    /// While failures still weigh.
    pub damping: Option<DampingStatus>,
    /// Where the proxy serves at its addresses.
    pub lease: Option<LeaseStatus>,
}

/// What the data path proves about a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// `valid`, `unproven` or `expired`.
    pub state: String,
    /// Since the worker that was silent for longest served; None while none has.
    pub oldest_ms: Option<u64>,
    /// How long a worker may be silent.
    pub lease_ms: u64,
    /// What is wrong or missing, in words.
    pub what: Option<String>,
}

/// The ladder of a drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// `de-preferred`, `withdrawn` or `closed`.
    pub step: String,
    /// The operator's reason; may be empty.
    pub words: String,
    pub begun_ms: u64,
    /// How long it has been at this step.
    pub step_ms: u64,
    /// Until the deadline; None once closed.
    pub deadline_ms: Option<u64>,
    /// As measured; None while nothing was measured lately.
    pub open_flows: Option<u64>,
    pub new_flows_per_second: Option<f64>,
}

/// What failures still weigh in the way back up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DampingStatus {
    /// Not yet forgiven.
    pub failures: u32,
    /// How long the services must be up without a break.
    pub dwell_ms: u64,
    /// What is left of that; None while they are not up, or it is announced.
    pub left_ms: Option<u64>,
}

/// One anycast address on its device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressStatus {
    pub address: String,
    pub device: String,
    /// `ours`, `operator` (it was there before us) or `missing`.
    pub state: String,
    pub error: Option<String>,
}

/// One service's health.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub service: String,
    /// `up`, `degraded` or `down`.
    pub state: String,
    pub since_ms: u64,
    pub healthy_weight: u32,
    pub total_weight: u32,
    pub low: u32,
    pub high: u32,
    pub degrade: Option<u32>,
    pub backends: Vec<BackendStatus>,
}

/// One backend as its checks see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    pub id: String,
    pub target: String,
    pub region: String,
    pub weight: u32,
    /// `up`, `down` or `unproven`.
    pub verdict: String,
    pub since_ms: u64,
    /// The last failure in words (`connection refused`, `no answer within 500ms`, `status 500`), while it matters.
    pub error: Option<String>,
    /// Round trip of the last successful probe.
    pub rtt_us: Option<u64>,
    pub last_probe_ms_ago: Option<u64>,
    pub probes: u64,
    pub failures: u64,
    /// `open`, `closed` or `off`: the connection held beside polling.
    pub held_connection: String,
}

/// What became of the journal's entries since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct JournalStatus {
    /// Entries written to disk.
    pub written: u64,
    /// Entries that were lost: there was no room for them, or they left the memory before the disk took them.
    pub lost: u64,
}
