//! A packet capture on one interface: BGP messages become events, chosen packets are noted, the rest is not even copied.

pub mod filter;
pub mod pcap;
pub mod tally;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::Socket;

pub use filter::Filter;
pub use pcap::PcapWriter;
pub use tally::Tally;

use crate::bgp_stream::segment::Packet;
use crate::bgp_stream::{Event, Streams};
use crate::moment::Moment;
use crate::sys::packet::{self, Received};

/// Kernel buffer: a second of a busy lab link.
const RECEIVE_BUFFER: usize = 16 << 20;
/// The largest packet segmentation offload makes.
const LARGEST_PACKET: usize = 1 << 17;
/// How soon a stop is noticed.
const POLL: Duration = Duration::from_millis(20);
/// How long after a stop waiting packets are still read.
const LAST_CALL: Duration = Duration::from_millis(500);
/// Events and notes kept; what comes after is counted only.
const MAX_KEPT: usize = 1_000_000;

/// What to look at. The default is BGP only.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is noted besides BGP.
    pub filter: Filter,
    /// Everything that passes the filter is also written here.
    pub pcap: Option<PathBuf>,
}

/// A packet that passed the filter and is not BGP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub at: Moment,
    /// Leaving the namespace of the capture.
    pub outgoing: bool,
    pub kind: NoteKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoteKind {
    Tcp { from: SocketAddr, to: SocketAddr, syn: bool, ack: bool, fin: bool, rst: bool, len: usize },
    Udp { from: SocketAddr, to: SocketAddr, len: usize },
    Other { from: IpAddr, to: IpAddr, protocol: u8 },
    Arp { request: bool, sender: Ipv4Addr, target: Ipv4Addr },
}

/// What a capture has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    pub events: Vec<Event>,
    pub notes: Vec<Note>,
    /// Arrivals for the tallied addresses.
    pub tally: Tally,
    /// Packets that passed the kernel's filter.
    pub packets: u64,
    /// Packets lost for want of buffer: a figure from a capture with drops is no figure.
    pub dropped: u64,
    /// Events and notes beyond what is kept.
    pub left_out: u64,
    /// Why the capture ended by itself, if it did.
    pub failed: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot capture on {interface}: {source} (it needs root, and the interface in this namespace)")]
    Open { interface: String, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Pcap { path: PathBuf, source: io::Error },
}

/// A running capture on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    grown: Condvar,
    stop: AtomicBool,
}

impl Capture {
    /// Captures on `interface` of the calling thread's network namespace from this call on: packets
    /// sent after it returned are seen.
    pub fn start(interface: &str, options: Options) -> Result<Capture, Error> {
        let failed = |source| Error::Open { interface: interface.to_owned(), source };
        let program = options.filter.program();
        let socket = packet::packet_socket(interface, |socket| {
            packet::force_receive_buffer(socket, RECEIVE_BUFFER)
                .or_else(|_| socket.set_recv_buffer_size(RECEIVE_BUFFER))?;
            socket.set_read_timeout(Some(POLL))?;
            socket.attach_filter(&program)
        })
        .map_err(failed)?;
        let pcap = match options.pcap {
            Some(path) => match PcapWriter::create(&path) {
                Ok(writer) => Some(writer),
                Err(source) => return Err(Error::Pcap { path, source }),
            },
            None => None,
        };
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            shared: Arc::clone(&shared),
            // A packet on loopback passes twice; once is enough.
            skip_outgoing: interface == "lo",
            socket,
            filter: options.filter,
            pcap,
            streams: Streams::new(),
        };
        let thread = thread::Builder::new()
            .name(format!("capture-{interface}"))
            .spawn(move || worker.run())
            .map_err(failed)?;
        Ok(Capture { shared, thread: Some(thread) })
    }

    /// Looks at what was seen so far, without copying it. Keep it short: the capture waits meanwhile.
    pub fn look<T>(&self, with: impl FnOnce(&Seen) -> T) -> T {
        with(&self.shared.lock())
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.look(|seen| seen.events.clone())
    }

    /// Waits until `find` finds something in what was seen, or the time is over.
    pub fn wait<T>(&self, timeout: Duration, mut find: impl FnMut(&Seen) -> Option<T>) -> Option<T> {
        let until = Moment::now() + timeout;
        let mut seen = self.shared.lock();
        loop {
            if let Some(found) = find(&seen) {
                return Some(found);
            }
            let left = until.after(Moment::now())?;
            seen = self.shared.grown.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes what already arrived, ends the thread, and hands everything over.
    pub fn stop(mut self) -> Seen {
        self.end();
        std::mem::take(&mut *self.shared.lock())
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread leaves what it had seen; `failed` stays empty, but so do the counts.
            let _ = thread.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    shared: Arc<Shared>,
    socket: Socket,
    filter: Filter,
    skip_outgoing: bool,
    pcap: Option<PcapWriter>,
    streams: Streams,
}

impl Worker {
    fn run(mut self) {
        let mut buffer = vec![0u8; LARGEST_PACKET];
        let mut events = Vec::new();
        let mut last_call = None;
        loop {
            // Read before the flag: what had arrived when it was raised is still taken, but not all
            // that goes on arriving.
            let stopping = self.shared.stop.load(Ordering::Acquire);
            if stopping && *last_call.get_or_insert_with(|| Moment::now() + LAST_CALL) < Moment::now() {
                break;
            }
            match packet::receive(&self.socket, &mut buffer) {
                Ok(received) => self.take(received, &buffer[..received.len], &mut events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.count_drops();
                    if stopping {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The interface going down is told once, and is no end: it may come back.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                    if stopping {
                        break;
                    }
                }
                Err(error) => {
                    self.shared.lock().failed = Some(error.to_string());
                    break;
                }
            }
        }
        self.count_drops();
        if let Some(Err(error)) = self.pcap.as_mut().map(PcapWriter::flush) {
            self.shared.lock().failed = Some(format!("pcap: {error}"));
        }
        self.shared.grown.notify_all();
    }

    fn take(&mut self, received: Received, bytes: &[u8], events: &mut Vec<Event>) {
        if self.skip_outgoing && received.outgoing {
            return;
        }
        self.shared.lock().packets += 1;
        let at = Moment(received.at_ns);
        let Some(packet) = Packet::parse(received.protocol, bytes) else { return };
        if !self.filter.matches(&packet) {
            return;
        }
        if let Some(Err(error)) = self.pcap.as_mut().map(|pcap| pcap.write(&received, bytes)) {
            self.shared.lock().failed = Some(format!("pcap: {error}"));
            self.pcap = None;
        }
        let tallied = !received.outgoing && self.filter.tally.contains(&packet.target());
        let mut note = None;
        match packet {
            Packet::Tcp(segment) if Filter::is_bgp(&segment) => {
                self.streams.handle_segment(at, &segment, events);
            }
            _ if tallied => {}
            other => note = Some(Note { at, outgoing: received.outgoing, kind: note_kind(&other) }),
        }
        let mut seen = self.shared.lock();
        if tallied {
            seen.tally.add(at);
        }
        let grown = !events.is_empty() || note.is_some();
        for event in events.drain(..) {
            if seen.events.len() < MAX_KEPT {
                seen.events.push(event);
            } else {
                seen.left_out += 1;
            }
        }
        if let Some(note) = note {
            if seen.notes.len() < MAX_KEPT {
                seen.notes.push(note);
            } else {
                seen.left_out += 1;
            }
        }
        drop(seen);
        // Tallies are asked for afterwards; waking a waiter for each of 5,000 packets a second disturbs.
        if grown {
            self.shared.grown.notify_all();
        }
    }

    fn count_drops(&self) {
        if let Ok((_, dropped)) = packet::packet_statistics(&self.socket)
            && dropped > 0
        {
            self.shared.lock().dropped += u64::from(dropped);
        }
    }
}

fn note_kind(packet: &Packet<'_>) -> NoteKind {
    match *packet {
        Packet::Tcp(segment) => NoteKind::Tcp {
            from: segment.from,
            to: segment.to,
            syn: segment.syn,
            ack: segment.ack,
            fin: segment.fin,
            rst: segment.rst,
            len: segment.payload.len(),
        },
        Packet::Udp { from, to, payload } => NoteKind::Udp { from, to, len: payload.len() },
        Packet::Other { from, to, protocol } => NoteKind::Other { from, to, protocol },
        Packet::Arp { request, sender, target } => NoteKind::Arp { request, sender, target },
    }
}
