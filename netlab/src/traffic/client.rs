//! A client that sends datagrams at a steady rate and records what became of each.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

use super::{Error, Record, header, lock, parse, stamped_udp};
use crate::moment::Moment;
use crate::sys::packet;

pub const MAX_SOURCES: usize = 64;
/// How far behind the sending may fall, when the machine is busy, and still be caught up with.
const MAX_LAG: Duration = Duration::from_millis(250);
/// A slow client still looks for answers and for its end.
const MAX_SLEEP: Duration = Duration::from_millis(20);
/// How often answers are looked for: they carry their time, so this costs nothing but a view of the present.
const COLLECT: Duration = Duration::from_millis(2);
/// Answers still under way when the sending ends.
const LINGER: Duration = Duration::from_millis(200);

/// One thread: sends when due, collects answers in between. Answers are stamped by the kernel, so
/// looking for them late does not make them late. Dropping it stops it.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    record: Mutex<Record>,
    stop: AtomicBool,
}

impl Client {
    /// Starts in the calling thread's network namespace: `rate` datagrams a second to `target`, taking
    /// the sources in turn (port 0 takes any; name an address several times for several flows).
    pub fn start(target: SocketAddr, sources: &[SocketAddr], rate: u32) -> Result<Client, Error> {
        if rate == 0 || sources.is_empty() || sources.len() > MAX_SOURCES {
            return Err(Error::Sources { sources: sources.len(), max: MAX_SOURCES });
        }
        let mut sockets = Vec::new();
        for &address in sources {
            // Not connected: connect() needs a route, and a route is just what may be missing at times.
            sockets.push(stamped_udp(address).map_err(|source| Error::Socket { address, source })?);
        }
        static RUNS: AtomicU32 = AtomicU32::new(1);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::default());
        let sender = Sender { shared: Arc::clone(&shared), sockets, target, rate: rate.into(), run };
        let thread = thread::Builder::new()
            .name("traffic".to_owned())
            .spawn(move || sender.run())
            .map_err(Error::Thread)?;
        Ok(Client { shared, thread: Some(thread) })
    }

    /// Looks at the record so far. Keep it short: sending waits meanwhile.
    pub fn look<T>(&self, with: impl FnOnce(&Record) -> T) -> T {
        with(&lock(&self.shared.record))
    }

    /// Ends the sending, waits for answers under way, and hands over the record.
    pub fn stop(mut self) -> Record {
        self.end();
        std::mem::take(&mut *lock(&self.shared.record))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

struct Sender {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    target: SocketAddr,
    rate: u64,
    run: u32,
}

impl Sender {
    fn run(self) {
        let target = self.target.into();
        let mut start = Moment::now();
        let mut count = 0u64;
        let mut collected = start;
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = Moment::now();
            let due = self.due(now.since(start));
            if due > count + self.due(MAX_LAG) {
                // The machine stood still: what was not sent then is not sent now.
                start = now;
                count = 0;
                continue;
            }
            let mut record = lock(&self.shared.record);
            while count < due {
                let Some(sequence) = record.handle_sent(Moment::now()) else { break };
                let socket = &self.sockets[(sequence % self.sockets.len() as u64) as usize];
                let datagram = header(self.run, sequence);
                // An error may be about an earlier datagram (ICMP): the second try is about this one.
                if socket.send_to(&datagram, &target).is_err() && socket.send_to(&datagram, &target).is_err()
                {
                    record.refused += 1;
                }
                count += 1;
            }
            if now.since(collected) >= COLLECT {
                self.collect(&mut record);
                collected = now;
            }
            if record.is_full() {
                break;
            }
            drop(record);
            let next = start + Duration::from_nanos(count * 1_000_000_000 / self.rate);
            thread::sleep(next.since(Moment::now()).min(MAX_SLEEP));
        }
        let until = Moment::now() + LINGER;
        while Moment::now() < until {
            thread::sleep(Duration::from_millis(5));
            self.collect(&mut lock(&self.shared.record));
        }
    }

    /// Datagrams that should have left after this time: the first at once.
    fn due(&self, elapsed: Duration) -> u64 {
        (elapsed.as_nanos() * u128::from(self.rate) / 1_000_000_000) as u64 + 1
    }

    fn collect(&self, record: &mut Record) {
        let mut buffer = [0u8; 256];
        for socket in &self.sockets {
            loop {
                match packet::receive_now(socket, &mut buffer) {
                    Ok(received) => {
                        if let Some((run, sequence, name)) = parse(&buffer[..received.len])
                            && run == self.run
                        {
                            let name = String::from_utf8_lossy(name);
                            record.handle_answer(sequence, Moment(received.at_ns), &name);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error about an earlier datagram: read past it.
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
    }
}
