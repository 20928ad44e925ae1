//! Flows to the addresses of this POP as the proxy counts them, for who must know when a prefix is quiet.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The counts of one address and port, shared by all workers.
#[derive(Debug, Default)]
pub struct Flows {
    open: AtomicU64,
    accepted: AtomicU64,
}

impl Flows {
    /// Counts a flow; it is open until the answer is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Flow {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        Flow(Arc::clone(self))
    }

    /// Flows open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Flows ever begun.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// An open flow.
#[derive(Debug)]
pub struct Flow(Arc<Flows>);

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where the proxy listens, with its counts. They live on while an address and port are listened at again.
pub type FlowBook = BTreeMap<SocketAddr, Arc<Flows>>;

/// Addresses at which the proxy is to close what came before the instant: their drain is over.
pub type Closing = BTreeMap<IpAddr, Instant>;
