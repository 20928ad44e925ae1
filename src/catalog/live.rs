//! What all workers count together of one backend, so that no limit has a gap between check and act.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One backend's counts. It outlives configurations as long as the backend keeps service, id, address and port.
#[derive(Debug, Default)]
pub struct Live {
    connections: AtomicU32,
    /// Milliseconds on the process's clock; 0: not ejected.
    ejected_until: AtomicU64,
    /// Failures in a row.
    pub failures: AtomicU32,
    /// How often it was ejected without a long peace.
    pub ejections: AtomicU32,
    /// One connection at a time may try a backend whose ejection has just ended.
    pub trial: AtomicU32,
    pub carried: Carried,
}

/// What a backend was given since the process started.
#[derive(Debug, Default)]
pub struct Carried {
    /// Connections that reached it.
    pub connections: AtomicU64,
    /// Attempts that did not, and resets before its first octet.
    pub failures: AtomicU64,
    pub up: AtomicU64,
    pub down: AtomicU64,
}

impl Live {
    /// Takes a place, if there are fewer connections than `hard_limit` (0: no limit). The check and the act are one.
    #[must_use]
    pub fn take(self: &Arc<Self>, hard_limit: u32) -> Option<Place> {
        let limit = if hard_limit == 0 { u32::MAX } else { hard_limit };
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| (open < limit).then(|| open + 1))
            .ok()
            .map(|_| Place(Arc::clone(self)))
    }

    /// Connections at this moment.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Until when it is ejected, in milliseconds on the process's clock.
    #[must_use]
    pub fn ejected_until(&self) -> u64 {
        self.ejected_until.load(Ordering::Relaxed)
    }

    /// Ejects it until then; 0 takes it back.
    pub fn eject_until(&self, until: u64) {
        self.ejected_until.store(until, Ordering::Relaxed);
    }
}

/// A connection's place at a backend, given back when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Live>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}
