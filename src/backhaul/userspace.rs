//! The data plane in userspace: one thread that carries packets between the TUN and the socket, in order.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: the interface, the socket and the clock of the tunnels"
)]

mod arena;
mod engine;
#[cfg(test)]
mod tests;
mod train;
mod wire;

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::arena::Arena;
use self::engine::Engine;
use self::train::Trains;
use self::wire::{Lost, Sent, Wire};
use super::BackhaulError;
use super::coalesce::Coalescer;
use super::offload::Offload;
use super::plane::{Keys, Kind, Report, Wanted};
use crate::sys::datagram;
use crate::sys::tun::{Offloads, Tun};

/// Packets taken from the interface before what they became is sent.
const PACKETS: usize = 64;
/// Turns before the other tasks of this thread have theirs.
const TURNS: usize = 16;
const TICK: Duration = Duration::from_millis(100);
/// The longest packet of a TUN with what is left to do for it.
const FRAME: usize = Offload::LENGTH + 65_535 + 64;
/// Before the socket is tried again that took nothing more.
const REST: Duration = Duration::from_millis(1);

/// What a plane is made from.
#[derive(Debug, Clone)]
pub struct Setting {
    pub interface: String,
    pub listen: u16,
    /// Our own address inside.
    pub node: Ipv6Addr,
    pub offload_tun: bool,
    pub offload_udp: bool,
}

/// The running plane. With it its interface is gone.
pub struct Userspace {
    tun: Tun,
    wire: Wire,
    /// The same descriptors again, under the watch of this thread's runtime.
    tun_watch: AsyncFd<OwnedFd>,
    wire_watch: AsyncFd<OwnedFd>,
    engine: Engine,
    trains: Trains,
    arena: Arena,
    coalescer: Coalescer,
    frame: Vec<u8>,
    /// The socket is full, and trains wait.
    full: bool,
    lost: u64,
    keys: watch::Receiver<Arc<Keys>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    report: watch::Sender<Arc<Report>>,
}

impl Userspace {
    /// Makes the interface and opens the port. Addresses and routes are somebody else's.
    ///
    /// # Errors
    /// The kernel's, in words that say what to do.
    pub fn open(
        setting: &Setting,
        mut keys: watch::Receiver<Arc<Keys>>,
        wanted: watch::Receiver<Arc<Wanted>>,
        report: watch::Sender<Arc<Report>>,
    ) -> Result<Self, BackhaulError> {
        let offloads = Offloads { tcp: setting.offload_tun, udp: setting.offload_tun };
        let tun = Tun::open(&setting.interface, offloads).map_err(BackhaulError::Plane)?;
        let wire = Wire::open(setting.listen, setting.offload_udp).map_err(BackhaulError::Plane)?;
        let offloads = tun.offloads();
        let engine = Engine::new(Keys::clone(&keys.borrow_and_update()), setting.node, Instant::now());
        let watched = |fd: BorrowedFd<'_>| datagram::watch(fd.try_clone_to_owned()?);
        Ok(Self {
            trains: Trains::new(wire.most_datagrams()),
            tun_watch: watched(tun.as_fd()).map_err(BackhaulError::Plane)?,
            wire_watch: watched(wire.as_fd()).map_err(BackhaulError::Plane)?,
            tun,
            wire,
            engine,
            arena: Arena::default(),
            coalescer: Coalescer::new(offloads.tcp, offloads.udp),
            frame: vec![0; FRAME],
            full: false,
            lost: 0,
            keys,
            wanted,
            report,
        })
    }

    /// Carries packets until it is told to stop.
    ///
    /// # Errors
    /// The interface is gone.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), BackhaulError> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.set();
        loop {
            let full = self.full;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                _ = tick.tick() => self.tick(),
                Ok(()) = self.keys.changed() => {
                    let keys = Arc::clone(&self.keys.borrow_and_update());
                    self.engine.set_keys(&keys, Instant::now());
                }
                Ok(()) = self.wanted.changed() => self.set(),
                () = sleep(REST), if full => self.send(),
                () = something(&self.tun_watch, &self.wire_watch, full) => {
                    if self.carry()? {
                        yield_now().await;
                    }
                }
            }
        }
    }

    fn set(&mut self) {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let random = SystemRandom::new();
        let index = || {
            let mut octets = [0; 4];
            // Without randomness no handshake works either; then the index is the least of it.
            let _ = random.fill(&mut octets);
            u32::from_ne_bytes(octets)
        };
        self.engine.set(&wanted, index, Instant::now());
        self.tick();
    }

    fn tick(&mut self) {
        self.engine.tick(Instant::now(), &mut self.trains);
        self.send();
        let tun = self.tun.offloads();
        let of_tun =
            [(tun.tcp, "tso"), (tun.udp, "uso")].into_iter().filter_map(|(on, word)| on.then_some(word));
        let offloads = of_tun.chain(self.wire.offloads()).collect();
        let report = Report { kind: Kind::Userspace, offloads, ..self.engine.report() };
        self.report.send_replace(Arc::new(report));
    }

    /// Both directions in turn. True: there may be more.
    fn carry(&mut self) -> Result<bool, BackhaulError> {
        for _ in 0..TURNS {
            let out = !self.full && self.take_from_tun()?;
            let back = self.take_from_wire()?;
            if !out && !back {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True: there may be more.
    fn take_from_tun(&mut self) -> Result<bool, BackhaulError> {
        let mut more = true;
        for _ in 0..PACKETS {
            let read = |_: &OwnedFd| self.tun.read(&mut self.frame);
            let length = match self.tun_watch.try_io(Interest::READABLE, read) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(BackhaulError::Interface(error)),
            };
            let frame = &mut self.frame[..length];
            if let Some((head, packet)) = frame.split_first_chunk_mut::<{ Offload::LENGTH }>()
                && let Ok(offload) = Offload::decode(head)
            {
                self.engine.outbound(offload, packet, &mut self.trains, &mut self.arena);
            }
            if self.trains.is_full() {
                self.send();
                if self.full {
                    break;
                }
            }
        }
        self.send();
        if !self.arena.is_empty() {
            self.write();
        }
        Ok(more)
    }

    /// True: there may be more.
    fn take_from_wire(&mut self) -> Result<bool, BackhaulError> {
        let received = self.wire_watch.try_io(Interest::READABLE, |_| self.wire.receive());
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            // ICMP's words about a datagram of ours; the next is what counts.
            Err(_) => return Ok(true),
        };
        for train in 0..count {
            let (datagrams, arrival) = self.wire.came(train);
            for datagram in datagrams {
                if self.arena.is_full() {
                    write(&self.tun, &mut self.arena, &mut self.coalescer);
                }
                self.engine.inbound(datagram, arrival, &mut self.arena, &mut self.trains);
            }
        }
        self.write();
        self.send();
        Ok(true)
    }

    fn send(&mut self) {
        let lost = &mut self.lost;
        if !self.trains.is_empty() {
            let sent = self.wire.send(&mut self.trains, |why| {
                *lost += 1;
                if lost.is_power_of_two() {
                    match why {
                        Lost::TooLong(way, size) => {
                            warn!(to = %way.to, size, "the path takes no datagrams of this size");
                        }
                        Lost::Refused(way) => warn!(to = %way.to, "the kernel refuses to send to there"),
                    }
                }
            });
            self.full = sent == Sent::Full;
        }
    }

    fn write(&mut self) {
        write(&self.tun, &mut self.arena, &mut self.coalescer);
    }
}

/// Writes what is in the arena, as few packets as possible, and empties it.
fn write(tun: &Tun, arena: &mut Arena, coalescer: &mut Coalescer) {
    let (octets, packets) = arena.parts();
    coalescer.coalesce(octets, packets);
    for group in coalescer.groups() {
        let head = group.offload.encode();
        let count = group.parts.len() + 1;
        let mut parts = [IoSlice::new(&[]); 66];
        parts[0] = IoSlice::new(&head);
        for (slice, part) in parts[1..].iter_mut().zip(group.parts) {
            *slice = IoSlice::new(&octets[part.clone()]);
        }
        // What the interface does not take (it is down, its queue is full) is lost, as on any link.
        let _ = tun.write(&parts[..count]);
    }
    arena.clear();
}

/// Resolves when there is something to carry. While `full`, what the interface has waits.
async fn something(tun: &AsyncFd<OwnedFd>, wire: &AsyncFd<OwnedFd>, full: bool) {
    poll_fn(|context| {
        let tun = !full && tun.poll_read_ready(context).is_ready();
        let wire = wire.poll_read_ready(context).is_ready();
        if tun || wire { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
