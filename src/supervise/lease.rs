//! Leases: who serves renews, and who does not is not believed for longer than a lease (decision rule 2).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// When each worker last served.
#[derive(Debug)]
pub struct Board {
    epoch: Instant,
    renewed: Vec<AtomicU64>,
}

impl Board {
    /// For so many workers; `epoch` is before every renewal.
    #[must_use]
    pub fn new(workers: usize, epoch: Instant) -> Self {
        Self { epoch, renewed: (0..workers).map(|_| AtomicU64::new(0)).collect() }
    }

    /// A worker has served.
    pub fn renew(&self, worker: usize, now: Instant) {
        let ns = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        self.renewed[worker].store(ns.max(1), Ordering::Release);
    }
}
