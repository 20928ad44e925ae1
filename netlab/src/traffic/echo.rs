//! A UDP server that answers every datagram with its own name, and remembers when each arrived.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

use super::{Error, lock, parse, stamped_udp};
use crate::capture::Tally;
use crate::moment::Moment;
use crate::sys::packet;

/// How soon a stop is noticed.
const POLL: Duration = Duration::from_millis(20);
const MAX_NAME: usize = 64;
/// Addresses told apart; of more, nothing is counted.
const MAX_SOURCES: usize = 4_096;

/// One thread per address. Dropping it stops it.
#[derive(Debug)]
pub struct EchoServer {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    arrivals: Mutex<Tally>,
    sources: Mutex<BTreeMap<IpAddr, u64>>,
    stop: AtomicBool,
}

impl EchoServer {
    /// Starts in the calling thread's network namespace, bound to every one of `addresses`, which need
    /// not exist yet. Answers leave from the address asked. Port 0 takes any, see `addresses`.
    pub fn start(name: &str, addresses: &[SocketAddr]) -> Result<EchoServer, Error> {
        let mut name = name.to_owned();
        name.truncate(MAX_NAME);
        let shared = Arc::new(Shared {
            name,
            arrivals: Mutex::default(),
            sources: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let mut server = EchoServer { shared, addresses: Vec::new(), threads: Vec::new() };
        for &address in addresses {
            let failed = |source| Error::Socket { address, source };
            let socket = stamped_udp(address).map_err(failed)?;
            socket.set_read_timeout(Some(POLL)).map_err(failed)?;
            let bound = socket.local_addr().map_err(failed)?.as_socket();
            server.addresses.push(bound.unwrap_or(address));
            let shared = Arc::clone(&server.shared);
            let thread = thread::Builder::new()
                .name(format!("echo-{}", shared.name))
                .spawn(move || answer(&shared, &socket))
                .map_err(Error::Thread)?;
            server.threads.push(thread);
        }
        Ok(server)
    }

    /// Where it listens, with the ports taken.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Looks at the arrivals (kernel time). Keep it short: answering waits meanwhile.
    pub fn look<T>(&self, with: impl FnOnce(&Tally) -> T) -> T {
        with(&lock(&self.shared.arrivals))
    }

    /// How many datagrams of the lab came from this address; of anybody without one.
    #[must_use]
    pub fn arrived(&self, from: Option<IpAddr>) -> u64 {
        let sources = lock(&self.shared.sources);
        match from {
            Some(from) => sources.get(&from).copied().unwrap_or(0),
            None => sources.values().sum(),
        }
    }

    pub fn stop(mut self) -> Tally {
        self.end();
        std::mem::take(&mut *lock(&self.shared.arrivals))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn answer(shared: &Shared, socket: &Socket) {
    let mut buffer = [0u8; 2048];
    let mut reply = Vec::with_capacity(128);
    while !shared.stop.load(Ordering::Acquire) {
        let received = match packet::receive(socket, &mut buffer) {
            Ok(received) => received,
            // A timeout, or an ICMP error about an earlier answer.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => continue,
        };
        let Some(peer) = received.peer else { continue };
        let datagram = &buffer[..received.len];
        if parse(datagram).is_none() {
            continue;
        }
        let mut sources = lock(&shared.sources);
        if sources.len() < MAX_SOURCES || sources.contains_key(&peer.ip()) {
            *sources.entry(peer.ip()).or_default() += 1;
        }
        drop(sources);
        reply.clear();
        reply.extend_from_slice(&datagram[..super::HEADER]);
        reply.extend_from_slice(shared.name.as_bytes());
        // An answer that cannot be sent shows at the client.
        let _ = socket.send_to(&reply, &peer.into());
        lock(&shared.arrivals).add(Moment(received.at_ns));
    }
}
