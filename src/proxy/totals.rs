//! What all workers count together: the bounds of the process.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use super::affinity::Affinity;
use super::desk::Desk;
use crate::catalog::live::Suspect;

/// Counts of the whole data plane.
#[derive(Debug, Default)]
pub struct Totals {
    open: AtomicU32,
    handshakes: AtomicU32,
    /// Octets in the proxy's own buffers.
    held: AtomicU64,
    /// Times that the kernel had no descriptor for a client.
    pub starved: AtomicU64,
    /// Clients sent away because of a bound.
    pub refused: AtomicU64,
    /// Lines that the access log had no room for.
    pub unlogged: AtomicU64,
    /// Made when the first service asks for it.
    affinity: OnceLock<Affinity>,
    suspects: Option<mpsc::Sender<Suspect>>,
    /// Connections of our own.
    pub desk: Arc<Desk>,
}

/// Which of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Connections,
    Handshakes,
}

/// Bindings of clients to backends: 4 MiB.
const BINDINGS: usize = 1 << 18;

impl Totals {
    /// `suspects`: whom to tell of backends that failed.
    #[must_use]
    pub fn new(suspects: mpsc::Sender<Suspect>) -> Self {
        Self { suspects: Some(suspects), ..Self::default() }
    }

    /// Which client stays with which backend.
    pub fn affinity(&self) -> &Affinity {
        self.affinity.get_or_init(|| Affinity::new(BINDINGS))
    }

    /// Asks for an active check at once. With too many of these on their way already, one more changes nothing.
    pub fn suspect(&self, service: &Arc<str>, backend: &Arc<str>) {
        if let Some(suspects) = &self.suspects {
            let suspect = Suspect { service: Arc::clone(service), backend: Arc::clone(backend) };
            drop(suspects.try_send(suspect));
        }
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts one more, unless there are `limit` already. Given back when the answer is dropped.
    #[must_use]
    pub fn take(self: &Arc<Self>, count: Count, limit: u32) -> Option<Taken> {
        let taken = Taken { totals: Arc::clone(self), count };
        // Counted first and looked at after: two that race for the last place may both lose, never both win.
        if taken.cell().fetch_add(1, Ordering::Relaxed) < limit { Some(taken) } else { None }
    }

    /// Octets held, after a change.
    pub fn hold(&self, before: usize, after: usize) -> u64 {
        if before == after {
            return 0;
        }
        let change = (after as u64).wrapping_sub(before as u64);
        self.held.fetch_add(change, Ordering::Relaxed).wrapping_add(change)
    }

    /// Octets held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

/// One that is counted.
#[derive(Debug)]
pub struct Taken {
    totals: Arc<Totals>,
    count: Count,
}

impl Taken {
    fn cell(&self) -> &AtomicU32 {
        match self.count {
            Count::Connections => &self.totals.open,
            Count::Handshakes => &self.totals.handshakes,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.cell().fetch_sub(1, Ordering::Relaxed);
    }
}
