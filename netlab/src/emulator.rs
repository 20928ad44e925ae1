//! A path of UDP that loses, doubles, reorders and delays: what netem does where the kernel has none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::packet::force_receive_buffer;

/// How soon a stop is noticed.
const POLL: Duration = Duration::from_millis(20);
/// Addresses that use one path.
const MOST_CLIENTS: usize = 64;
/// Datagrams that wait; what comes beyond is lost, as in a router's queue.
const MOST_WAITING: usize = 20_000;
/// How much later than others one comes that is to be overtaken.
const OVERTAKEN: Duration = Duration::from_millis(3);
/// Datagrams of one socket before the others have their turn.
const TURN: usize = 64;

/// How bad the path is, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Impairment {
    /// Percent of the datagrams.
    pub loss: f64,
    pub duplicate: f64,
    /// Held back a little, so that others overtake them.
    pub reorder: f64,
    /// Of all.
    pub delay_ms: f64,
    /// Up to so much more, evenly spread. It reorders too.
    pub jitter_ms: f64,
}

/// What becomes of one datagram: after how long each copy of it leaves. Pure.
#[derive(Debug)]
struct Fate {
    dice: u64,
}

/// A running path. Dropping it ends it.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    impairment: Mutex<Impairment>,
    stop: AtomicBool,
}

impl Emulator {
    /// Starts in the calling thread's network namespace.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(listen: SocketAddr, to: SocketAddr, impairment: Impairment) -> io::Result<Self> {
        let shared = Arc::new(Shared { impairment: Mutex::new(impairment), stop: AtomicBool::new(false) });
        let path = Path {
            shared: Arc::clone(&shared),
            listener: socket(Some(listen), listen)?,
            to,
            clients: Vec::new(),
            waiting: BinaryHeap::new(),
            number: 0,
            fate: Fate { dice: 0x5DEE_CE66_D1CE_4E5B },
        };
        // In this namespace for good: sockets for new clients are made by the thread.
        let thread = thread::Builder::new().name("emulator".to_owned()).spawn(move || path.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on it is so bad.
    pub fn set(&self, impairment: Impairment) {
        *self.shared.impairment.lock().unwrap_or_else(PoisonError::into_inner) = impairment;
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Path {
    shared: Arc<Shared>,
    listener: UdpSocket,
    to: SocketAddr,
    /// Whoever uses it, with the socket that speaks for them at the far end.
    clients: Vec<(SocketAddr, UdpSocket)>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    number: u64,
    fate: Fate,
}

/// A datagram under way. The earliest is the least; the number keeps those of one moment in their order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    client: usize,
    forth: bool,
    octets: Vec<u8>,
}

impl Path {
    fn run(mut self) {
        let mut buffer = vec![0; 1 << 16];
        while !self.shared.stop.load(Ordering::Acquire) {
            let next = self.waiting.peek().map(|Reverse(waiting)| waiting.due);
            let pause = next.map_or(POLL, |due| due.saturating_duration_since(Instant::now()).min(POLL));
            let timeout = PollTimeout::try_from(pause.as_micros().div_ceil(1_000) as i32);
            let sockets = self.clients.iter().map(|(_, socket)| socket).chain([&self.listener]);
            let mut ready: Vec<_> =
                sockets.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
            let _ = poll(&mut ready, timeout.unwrap_or(PollTimeout::ZERO));
            let ready: Vec<bool> = ready.iter().map(|one| one.any().unwrap_or(false)).collect();
            let impairment = *self.shared.impairment.lock().unwrap_or_else(PoisonError::into_inner);
            for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                self.take(index, &impairment, &mut buffer);
            }
            self.release();
        }
    }

    fn take(&mut self, index: usize, impairment: &Impairment, buffer: &mut [u8]) {
        for _ in 0..TURN {
            let forth = index >= self.clients.len();
            let socket = self.clients.get(index).map_or(&self.listener, |(_, socket)| socket);
            // Errors are an empty socket, or ICMP about an earlier datagram.
            let Ok((count, from)) = socket.recv_from(buffer) else { return };
            let Some(client) = (if forth { self.client(from) } else { Some(index) }) else { continue };
            for after in self.fate.copies(impairment) {
                if self.waiting.len() >= MOST_WAITING {
                    break;
                }
                self.number += 1;
                let due = Instant::now() + after;
                let octets = buffer[..count].to_vec();
                self.waiting.push(Reverse(Waiting { due, number: self.number, client, forth, octets }));
            }
            // A new client's socket moves the listener's place: back to the poll.
            if forth && index != self.clients.len() {
                return;
            }
        }
    }

    fn client(&mut self, from: SocketAddr) -> Option<usize> {
        if let Some(known) = self.clients.iter().position(|(address, _)| *address == from) {
            return Some(known);
        }
        if self.clients.len() >= MOST_CLIENTS {
            return None;
        }
        let fresh = socket(None, self.to).ok()?;
        self.clients.push((from, fresh));
        Some(self.clients.len() - 1)
    }

    fn release(&mut self) {
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse(waiting)| waiting.due <= now) {
            let Some(Reverse(waiting)) = self.waiting.pop() else { return };
            let Some((address, socket)) = self.clients.get(waiting.client) else { continue };
            // What cannot be sent is lost, as on any path.
            let _ = match waiting.forth {
                true => socket.send_to(&waiting.octets, self.to),
                false => self.listener.send_to(&waiting.octets, address),
            };
        }
    }
}

impl Fate {
    /// After how long each copy leaves; none: it is lost.
    fn copies(&mut self, impairment: &Impairment) -> impl Iterator<Item = Duration> + use<> {
        let lost = self.happens(impairment.loss);
        let count = if lost { 0 } else { 1 + usize::from(self.happens(impairment.duplicate)) };
        let mut delays = [Duration::ZERO; 2];
        for delay in &mut delays {
            let jitter = self.roll() * impairment.jitter_ms;
            *delay = Duration::from_secs_f64((impairment.delay_ms + jitter).clamp(0.0, 60_000.0) / 1e3);
            if self.happens(impairment.reorder) {
                *delay += OVERTAKEN;
            }
        }
        delays.into_iter().take(count)
    }

    fn happens(&mut self, percent: f64) -> bool {
        self.roll() * 100.0 < percent
    }

    /// From 0 to 1.
    fn roll(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn socket(bind: Option<SocketAddr>, family: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(family), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    force_receive_buffer(&socket, 8 << 20)?;
    if let Some(address) = bind {
        socket.bind(&address.into())?;
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(impairment: &Impairment) -> Vec<Vec<Duration>> {
        let mut fate = Fate { dice: 99 };
        (0..10_000).map(|_| fate.copies(impairment).collect()).collect()
    }

    #[test]
    fn a_good_path_does_nothing() {
        assert!(fates(&Impairment::default()).iter().all(|copies| copies == &[Duration::ZERO]));
    }

    #[test]
    fn what_is_asked_for_happens_as_often() {
        let bad = Impairment { loss: 10.0, duplicate: 5.0, reorder: 20.0, delay_ms: 7.0, jitter_ms: 2.0 };
        let fates = fates(&bad);
        let share = |is: &dyn Fn(&Vec<Duration>) -> bool| {
            fates.iter().filter(|copies| is(copies)).count() as f64 / fates.len() as f64
        };
        assert!((0.08..0.12).contains(&share(&|copies| copies.is_empty())));
        assert!((0.035..0.055).contains(&share(&|copies| copies.len() == 2)));
        let late = Duration::from_millis(10);
        assert!((0.16..0.20).contains(&share(&|copies| copies.first().is_some_and(|it| *it >= late))));
        assert!(fates.iter().flatten().all(|delay| *delay >= Duration::from_millis(7)));
        assert!(fates.iter().flatten().all(|delay| *delay <= Duration::from_millis(12)));
    }

    #[test]
    fn datagrams_go_there_and_back_for_each_client() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = UdpSocket::bind(local).unwrap();
        let listen = UdpSocket::bind(local).unwrap().local_addr().unwrap();
        let emulator = Emulator::start(listen, server.local_addr().unwrap(), Impairment::default()).unwrap();
        for round in 0..3u8 {
            let client = UdpSocket::bind(local).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(&[round], listen).unwrap();
            let mut buffer = [0; 8];
            let (count, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&[buffer[0], count as u8], from).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 2);
            assert_eq!(buffer[..2], [round, 1]);
        }
        emulator.set(Impairment { loss: 100.0, ..Impairment::default() });
        let client = UdpSocket::bind(local).unwrap();
        client.send_to(b"lost", listen).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(server.recv(&mut [0; 8]).is_err());
    }
}
