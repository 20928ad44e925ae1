//! A door for datagrams at one worker: each client that sends something has a flow, and a flow has one backend.
//!
//! Every worker has a socket of its own at the address (`SO_REUSEPORT`), and the kernel's hash over both addresses and
//! ports gives a client's datagrams to one of them. The hash is over as many sockets as there are: while workers open
//! or close theirs, clients may come to another worker than before. There they have a new flow, to a backend that is
//! chosen anew, and the old one ends of silence. This happens at the start, and when a worker could not open its
//! door at first; the number of workers does not change in between.
//!
//! A flow holds its place at the backend, as a connection does, and a connected socket, so that it hears when nobody
//! listens there. It has no end of its own: it is over after `timeouts.udp_idle` without a datagram either way.
//! When no room is left new clients are not heard, and nobody who is inside has to go. We never answer anything
//! ourselves, so that a forged sender gets nothing from us that a backend did not send it.
#![expect(clippy::disallowed_methods, reason = "driver: owns a socket, and looks for silence by the clock")]

pub mod datagrams;
mod exchange;
mod flow;
mod home;
mod preface;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::exchange::Exchange;
use super::plan::Door;
use super::worker::Shared;
use crate::supervise::local::LocalTask;
use crate::sys::{datagram, stream as kernel};

/// From one look for silent flows to the next.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a door rests when the kernel has no memory for it.
const REST: Duration = Duration::from_millis(20);
/// What may wait in the kernel each way, in octets, if net.core.rmem_max and wmem_max allow as much.
const QUEUE: usize = 4 << 20;

/// An open door for datagrams. Dropping it closes it, and ends the flows that came in by it.
#[derive(Debug)]
pub(super) struct Opened {
    exchange: Rc<Exchange>,
    _receiving: LocalTask,
    _sweeping: LocalTask,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.exchange.close();
        self.exchange.door.borrow().standing.listening.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Opened {
    /// Takes what changed about the door.
    pub(super) fn change(&mut self, door: Arc<Door>) {
        self.exchange.door.replace(door);
    }
}

/// Opens a door.
///
/// # Errors
/// The kernel's.
pub(super) fn open(shared: &Rc<Shared>, door: Arc<Door>) -> io::Result<Opened> {
    let listener = datagram::watch(listen(&door)?)?;
    door.standing.listening.fetch_add(1, Ordering::Relaxed);
    let exchange = Rc::new(Exchange::new(Rc::clone(shared), door, listener));
    let receiving = LocalTask::spawn(receive(Rc::clone(&exchange)));
    let sweeping = LocalTask::spawn(sweep(Rc::clone(&exchange)));
    Ok(Opened { exchange, _receiving: receiving, _sweeping: sweeping })
}

fn listen(door: &Door) -> io::Result<OwnedFd> {
    let address = door.key.address;
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    // The anycast address may come after us and go before us.
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_freebind_v6(true)?;
            socket.set_only_v6(true)?;
        }
    }
    // The kernel gives what it may; with less, bursts are lost.
    let _ = socket.set_recv_buffer_size(QUEUE);
    let _ = socket.set_send_buffer_size(QUEUE);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Takes datagrams in for ever, a batch at a time: whoever sends too many waits for the others of this worker, not
/// they for him.
async fn receive(exchange: Rc<Exchange>) {
    loop {
        let Ok(mut guard) = exchange.listener.ready(datagram::INTEREST).await else { return };
        match exchange.take() {
            Ok(true) => {}
            Ok(false) => guard.clear_ready(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            Err(error) if kernel::is_starved(&error) => {
                exchange.shared.totals.starved.fetch_add(1, Ordering::Relaxed);
                sleep(REST).await;
            }
            // It was about one datagram, and has been taken from the socket.
            Err(_) => {}
        }
        drop(guard);
        yield_now().await;
    }
}

async fn sweep(exchange: Rc<Exchange>) {
    let mut every = interval(SWEEP);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        while exchange.sweep(Instant::now()) {
            yield_now().await;
        }
    }
}
