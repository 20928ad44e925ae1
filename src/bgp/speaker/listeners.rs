//! Where neighbors connect to: the listening sockets, their keys, and a rest when the kernel gives nothing.
#![expect(clippy::disallowed_methods, reason = "driver: owns the listeners and waits out their rest")]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::{pending, select_all};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep_until;
use tracing::{info, warn};

use super::TOLD;
use crate::bgp::rate::Rate;
use crate::bgp::{BgpError, socket};
use crate::config::bgp::{Bgp, Neighbor};

/// After an accept error such as a lack of file descriptors.
const REST: Duration = Duration::from_millis(100);

/// All listening sockets.
pub struct Listeners {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// Which one is asked first: one that always has a connection must not hide the others.
    turn: usize,
    resting: Option<Instant>,
    errors: Rate,
}

impl Listeners {
    /// None yet.
    pub fn new() -> Self {
        Self { sockets: Vec::new(), turn: 0, resting: None, errors: Rate::new(TOLD) }
    }

    /// Brings the listeners and their keys to the configuration; `before` are the neighbors that may
    /// have a key by now. Returns what could not be done; everything else has been.
    pub fn follow(&mut self, config: &Bgp, before: &[&Neighbor]) -> Vec<BgpError> {
        let mut failed = Vec::new();
        self.sockets.retain(|(address, _)| config.listen.contains(address));
        for (address, listener) in &self.sockets {
            let gone =
                before.iter().filter(|old| !config.neighbors.iter().any(|new| new.address == old.address));
            let keys = gone
                .map(|n| (n.address, None))
                .chain(config.neighbors.iter().map(|n| (n.address, n.password.as_ref().map(|p| p.expose()))));
            for (neighbor, key) in keys {
                if let Err(source) = socket::set_listen_key(listener, *address, neighbor, key) {
                    failed.push(BgpError::Listen { address: *address, source });
                }
            }
        }
        for address in &config.listen {
            if self.sockets.iter().any(|(existing, _)| existing == address) {
                continue;
            }
            match socket::listen(*address, &config.neighbors) {
                Ok(listener) => {
                    info!(%address, "accepting BGP sessions");
                    self.sockets.push((*address, listener));
                }
                Err(source) => failed.push(BgpError::Listen { address: *address, source }),
            }
        }
        failed
    }

    /// The next connection. After an error nothing is accepted for a moment, and connections wait in
    /// the kernel: a neighbor whose connection was closed instead would come back much later.
    pub async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(until) = self.resting {
                sleep_until(until.into()).await;
                self.resting = None;
            }
            match self.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => self.rest(&error),
            }
        }
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let count = self.sockets.len();
        if count == 0 {
            return pending().await;
        }
        let in_turn = self.sockets.iter().cycle().skip(self.turn % count).take(count);
        let accepted = select_all(in_turn.map(|(_, listener)| Box::pin(listener.accept()))).await.0;
        self.turn = self.turn.wrapping_add(1);
        accepted
    }

    fn rest(&mut self, error: &io::Error) {
        let now = Instant::now();
        self.resting = Some(now + REST);
        if self.errors.admit(now) {
            warn!("cannot accept BGP connections at the moment: {error}");
        }
    }

    /// Says in the log how often it was silent.
    pub fn summarize(&mut self, now: Instant) {
        if let Some(count) = self.errors.poll(now) {
            warn!("{count} more times no BGP connection could be accepted");
        }
    }

    /// Accepts nothing any more.
    pub fn close(&mut self) {
        self.sockets.clear();
    }
}
