//! Where our own connections announce themselves, so that the worker that takes one in says what became of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Connections of our own on their way at once; more are not begun.
const MOST: usize = 4_096;

/// What a worker found out with a connection of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It came as far as a backend, or as far as a client could have come.
    Served,
    /// Nobody can tell: no backend may be used, which is for health to judge.
    Nobody,
    /// In words.
    Failed(String),
}

/// Our own connections by the address that they come from.
#[derive(Debug, Default)]
pub struct Desk {
    expected: Mutex<HashMap<SocketAddr, oneshot::Sender<Proof>>>,
}

impl Desk {
    /// A connection from this address will be ours. None: too many are.
    #[must_use]
    pub fn expect(&self, from: SocketAddr) -> Option<oneshot::Receiver<Proof>> {
        let mut expected = self.lock();
        if expected.len() >= MOST {
            return None;
        }
        let (tell, proof) = oneshot::channel();
        expected.insert(from, tell);
        Some(proof)
    }

    /// The connection will not come any more.
    pub fn forget(&self, from: SocketAddr) {
        self.lock().remove(&from);
    }

    /// Whether a connection from this address is ours.
    #[must_use]
    pub fn expects(&self, from: SocketAddr) -> bool {
        self.lock().contains_key(&from)
    }

    /// Whether a connection from this address is ours, and whom to tell.
    #[must_use]
    pub fn take(&self, from: SocketAddr) -> Option<oneshot::Sender<Proof>> {
        self.lock().remove(&from)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, oneshot::Sender<Proof>>> {
        // Whole entries only: whoever died while it held this left nothing half done.
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_there_is_a_bound() {
        let desk = Desk::default();
        let from = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let mut proof = desk.expect(from(1)).unwrap();
        desk.take(from(1)).unwrap().send(Proof::Served).unwrap();
        assert_eq!(proof.try_recv(), Ok(Proof::Served));
        assert!(desk.take(from(1)).is_none());
        let all: Vec<_> = (1..=MOST as u16).map(|port| desk.expect(from(port)).unwrap()).collect();
        assert!(desk.expect(from(60_000)).is_none());
        desk.forget(from(1));
        assert!(desk.expect(from(60_000)).is_some());
        drop(all);
    }
}
