//! IPv6 packets of 64 octets through a tunnel, at a steady rate or as many as can be: delivered, and what they cost.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::pair::Pair;
use super::peer::Side;
use super::results::Sample;
use crate::sys::datagrams::{self, BATCH};
use crate::sys::packet::force_receive_buffer;

const PORT: u16 = 7_002;
/// An IPv6 header, a UDP header, and this: 64 octets.
const PAYLOAD: usize = 16;
const WARM: Duration = Duration::from_millis(500);
/// How soon a stop is noticed.
const POLL: Duration = Duration::from_millis(50);
/// How often what is due is sent: packets come in small groups, as they do from a network card.
const TICK: Duration = Duration::from_micros(250);
/// How far behind the sending may fall and still be caught up with.
const LAG: Duration = Duration::from_millis(20);
/// A steady rate must be carried whole, but for so many in a hundred.
const LOST: f64 = 1.0;

/// How many packets are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    rate: u32,
    /// Less may arrive.
    flood: bool,
}

impl Offered {
    /// So many a second, all of which must arrive.
    #[must_use]
    pub fn steady(rate: u32) -> Self {
        Self { rate, flood: false }
    }

    /// So many a second, or as many as the sender manages.
    #[must_use]
    pub fn flood(rate: u32) -> Self {
        Self { rate, flood: true }
    }
}

/// From the left end to the right one, for so long.
///
/// # Errors
/// When nothing arrives, or not all of a steady rate.
pub fn measure(pair: &Pair, offered: Offered, window: Duration) -> io::Result<Sample> {
    let to = SocketAddr::from((Side::Right.inside(), PORT));
    let into = pair.right.run(|| UdpSocket::bind(to))??;
    let out = pair.left.run(|| {
        let socket = UdpSocket::bind((Side::Left.inside(), PORT))?;
        socket.connect(to).map(|()| socket)
    })??;
    into.set_read_timeout(Some(POLL))?;
    force_receive_buffer(&SockRef::from(&into), 16 << 20)?;
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            pair.pin(Side::Left)?;
            send(&out, offered.rate, &sent, &stop);
            io::Result::Ok(())
        });
        let receiver = scope.spawn(|| {
            pair.pin(Side::Right)?;
            receive(&into, &received, &stop);
            io::Result::Ok(())
        });
        let counts = || (sent.load(Ordering::Relaxed) as f64, received.load(Ordering::Relaxed) as f64);
        thread::sleep(WARM);
        let (began, cpu, before) = (Instant::now(), pair.seconds(), counts());
        thread::sleep(window);
        let (after, wall, cpu) = (counts(), began.elapsed().as_secs_f64(), pair.seconds() - cpu);
        let resident_kib = pair.resident_kib();
        stop.store(true, Ordering::Release);
        for thread in [sender, receiver] {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a load's thread died")))?;
        }
        let (sent, work) = (after.0 - before.0, after.1 - before.1);
        let lost = 100.0 * (1.0 - work / sent.max(1.0));
        if work == 0.0 || (!offered.flood && lost > LOST) {
            return Err(io::Error::other(format!("of {sent} packets {work} arrived")));
        }
        Ok(Sample { work, wall, cpu, sent, retransmits: None, resident_kib })
    })
}

fn send(socket: &UdpSocket, rate: u32, sent: &AtomicU64, stop: &AtomicBool) {
    let payload = [0x5a; PAYLOAD];
    let batch = [&payload[..]; BATCH];
    let (mut began, mut count) = (Instant::now(), 0u64);
    let due = |elapsed: Duration| (elapsed.as_secs_f64() * f64::from(rate)) as u64;
    while !stop.load(Ordering::Acquire) {
        let elapsed = began.elapsed();
        if due(elapsed) > count + due(LAG) {
            // What could not be sent in its time is not sent in another's.
            began = Instant::now();
            count = 0;
            continue;
        }
        let wanted = due(elapsed).saturating_sub(count).min(BATCH as u64) as usize;
        if wanted == 0 {
            thread::sleep(TICK);
            continue;
        }
        // A refusal (ENOBUFS, or ICMP about an earlier one) is a packet that was offered and did not get through.
        let taken = datagrams::send(socket, &batch[..wanted]).unwrap_or(1);
        count += taken as u64;
        sent.fetch_add(taken as u64, Ordering::Relaxed);
    }
}

fn receive(socket: &UdpSocket, received: &AtomicU64, stop: &AtomicBool) {
    let mut buffers = Box::new([[0; 2_048]; BATCH]);
    while !stop.load(Ordering::Acquire) {
        // Errors are timeouts.
        let mut count = 0;
        let _ = datagrams::receive(socket, &mut buffers, |datagram| {
            count += u64::from(datagram.len() == PAYLOAD);
        });
        received.fetch_add(count, Ordering::Relaxed);
    }
}
