//! Datagrams that a door carried, and those that it dropped and why.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::status::traffic::DatagramStatus;
use crate::proxy::admission::Refused;

/// Why a datagram went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nobody could be answered there: port 0, or the door itself.
    Strange,
    /// The door has as many flows as it may.
    Limited,
    /// The source, or the network around it, has as many flows as it may.
    Crowded,
    /// The source, or the network around it, begins flows too fast.
    TooFast,
    /// The process has as many connections as it may.
    Overloaded,
    /// No backend may be used.
    NoBackend,
    /// Backends refused it, or no route leads there.
    Unreachable,
    /// The kernel has no descriptor, memory or port for another socket.
    Starved,
    /// The socket that it should leave from is full.
    Blocked,
    /// The kernel would not send it: too long for the path, or forbidden.
    Unsendable,
}

impl Reason {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 10] = [
        Self::Strange,
        Self::Limited,
        Self::Crowded,
        Self::TooFast,
        Self::Overloaded,
        Self::NoBackend,
        Self::Unreachable,
        Self::Starved,
        Self::Blocked,
        Self::Unsendable,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strange => "strange",
            Self::Limited => "limited",
            Self::Crowded => "crowded",
            Self::TooFast => "too-fast",
            Self::Overloaded => "overloaded",
            Self::NoBackend => "no-backend",
            Self::Unreachable => "unreachable",
            Self::Starved => "starved",
            Self::Blocked => "blocked",
            Self::Unsendable => "unsendable",
        }
    }
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ListenerFull => Self::Limited,
            Refused::SourceFull | Refused::SiteFull => Self::Crowded,
            Refused::SourceTooFast | Refused::SiteTooFast => Self::TooFast,
        }
    }
}

/// One way through a door.
#[derive(Debug, Default)]
pub struct Way {
    datagrams: AtomicU64,
    octets: AtomicU64,
}

impl Way {
    /// Counts some that went this way.
    pub fn add(&self, datagrams: usize, octets: u64) {
        self.datagrams.fetch_add(datagrams as u64, Ordering::Relaxed);
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }
}

/// One door's counts, over all workers.
#[derive(Debug, Default)]
pub struct Datagrams {
    /// From clients to backends.
    pub up: Way,
    pub down: Way,
    dropped: [AtomicU64; Reason::ALL.len()],
}

impl Datagrams {
    /// Counts some that went nowhere.
    pub fn drop(&self, reason: Reason, datagrams: usize) {
        self.dropped[reason as usize].fetch_add(datagrams as u64, Ordering::Relaxed);
    }

    /// So many went nowhere for that reason.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }

    /// All of it.
    #[must_use]
    pub fn status(&self) -> DatagramStatus {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let dropped = Reason::ALL.map(|reason| (reason.name().to_owned(), self.dropped(reason)));
        DatagramStatus {
            up: load(&self.up.datagrams),
            up_bytes: load(&self.up.octets),
            down: load(&self.down.datagrams),
            down_bytes: load(&self.down.octets),
            dropped: BTreeMap::from(dropped).into_iter().filter(|(_, count)| *count > 0).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_its_name() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let datagrams = Datagrams::default();
            datagrams.drop(reason, 3);
            assert_eq!(datagrams.status().dropped, BTreeMap::from([(reason.name().to_owned(), 3)]));
        }
    }
}
