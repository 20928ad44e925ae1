//! What the data plane tells of itself: doors, services, backends and single connections.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The data plane as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ProxyStatus {
    pub workers: usize,
    /// Connections open now.
    pub open: u32,
    /// Octets that wait in the proxy's own buffers.
    pub held_bytes: u64,
    /// Times that the kernel had no descriptor or memory for a client.
    pub starved: u64,
    /// Lines that the access log left out because of its rate.
    pub unlogged: u64,
    pub doors: Vec<DoorStatus>,
    /// Of listeners whose TLS ends here, by service.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    pub services: Vec<TrafficStatus>,
}

/// One address and port where clients come in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoorStatus {
    /// `198.51.100.1:443`, or `198.51.100.1:53/udp`.
    pub door: String,
    pub services: Vec<String>,
    pub open: u32,
    /// Workers that listen there.
    pub listening: usize,
    /// Why the others do not.
    pub error: Option<String>,
    /// Only of doors for datagrams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<DatagramStatus>,
}

/// One certificate that clients are shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub service: String,
    /// `198.51.100.1:443`, or `198.51.100.1:8000-8010`.
    pub listener: String,
    /// Names that lead to it; none: whatever no other listener there claims.
    pub names: Vec<String>,
    /// Made by edgeproxy itself for first steps.
    pub self_signed: bool,
    /// Its last second, counted from 1970; None of a self-signed one, or if it is not understood.
    pub not_after: Option<u64>,
    /// What is left of its time; negative once it is over.
    pub left_s: Option<i64>,
    /// What is wrong with it, in plain words, and what to do: it is over or soon will be, or nobody trusts it.
    pub problem: Option<String>,
}

/// What a door for datagrams carried since the process started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct DatagramStatus {
    /// From clients to backends.
    pub up: u64,
    pub up_bytes: u64,
    pub down: u64,
    pub down_bytes: u64,
    /// What went nowhere, by reason; only reasons that occurred.
    pub dropped: BTreeMap<String, u64>,
}

/// What one service carried since the process started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficStatus {
    pub service: String,
    pub open: u32,
    pub connections: u64,
    pub up_bytes: u64,
    pub down_bytes: u64,
    /// How connections ended, by kind; only kinds that occurred.
    pub ends: BTreeMap<String, u64>,
    /// From the accept to the backend's answer.
    pub reach: HistogramStatus,
    /// From the accept to the end.
    pub duration: HistogramStatus,
    pub backends: Vec<BackendTraffic>,
}

/// What one backend carried, and whether it is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackendTraffic {
    pub id: String,
    pub address: String,
    pub region: String,
    pub weight: u32,
    pub soft_limit: u32,
    pub hard_limit: u32,
    /// `up`, `down`, `unproven`, `draining` or `ejected`.
    pub state: String,
    pub open: u32,
    pub connections: u64,
    /// Attempts that did not reach it, and resets before its first octet.
    pub failures: u64,
    pub up_bytes: u64,
    pub down_bytes: u64,
    pub ejections: u32,
    /// What is left of its ejection.
    pub ejected_ms: Option<u64>,
    pub rtt_us: Option<u64>,
}

/// A histogram of seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct HistogramStatus {
    /// Upper bounds; one more count than bounds: the last is of all above.
    pub bounds: Vec<f64>,
    pub counts: Vec<u64>,
    pub sum: f64,
}

/// One open connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    pub client: String,
    pub door: String,
    /// None until it is known.
    pub service: Option<String>,
    pub backend: Option<String>,
    /// How that one was chosen: `bound`, `best`, `panic`, `trial` or `acme`, and after which failure if it was not the
    /// first.
    #[serde(default)]
    pub why: Option<String>,
    pub age_ms: u64,
    /// Since something last moved.
    pub idle_ms: u64,
    pub up_bytes: u64,
    pub down_bytes: u64,
    pub worker: usize,
}

/// Asks one worker for its connections.
#[derive(Debug)]
pub struct RollCall {
    /// At most so many.
    pub most: usize,
    pub reply: oneshot::Sender<Vec<ConnectionStatus>>,
}
