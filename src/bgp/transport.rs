//! Drives one neighbor: its sockets, the clock and the log, around [`Peer`].
#![expect(clippy::disallowed_methods, reason = "driver: owns the sockets and the clock of one neighbor")]

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt, OptionFuture};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep_until;
use tracing::{info, warn};

use super::collision::Origin;
use super::notification::Notification;
use super::origin::OriginSet;
use super::peer::{Close, Delivery, Peer, PeerEvent, Scribe};
use super::rate::Rate;
use super::socket;
use crate::config::bgp::Neighbor;
use crate::observe::journal::{Event, Journal};
use crate::observe::metrics::Recorder;
use crate::observe::status::NeighborStatus;

/// One read takes at most this much, so that no neighbor keeps the thread from the others.
const ONE_READ: usize = 64 * 1024;
/// Ages in a neighbor's report are never older than this.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Lines in a minute about connections that no session came of: the neighbor may try as fast as it can.
const ATTEMPTS_TOLD: u32 = 6;
/// Lines in a minute about sessions: more than a session that comes and goes has to say.
const SESSIONS_TOLD: u32 = 120;

/// What the speaker tells a neighbor's task.
#[derive(Debug)]
pub enum Command {
    /// The neighbor connected to us.
    Accepted(TcpStream),
    /// A configuration that the session survives.
    Configure(Box<Neighbor>),
    /// Something seen from outside explains why the session does not come up.
    Suspect(String),
    /// End for good, with these last words.
    Stop(Notification),
}

/// What a neighbor's task tells the speaker.
#[derive(Debug, Clone)]
pub struct Report {
    pub delivery: Delivery,
    pub status: Arc<NeighborStatus>,
}

/// The ends of the channels of a neighbor's task.
pub struct Ends {
    pub wanted: watch::Receiver<Arc<OriginSet>>,
    pub commands: mpsc::Receiver<Command>,
    pub report: watch::Sender<Report>,
    /// Rung after every report that has news.
    pub ring: Arc<Notify>,
    pub recorder: Recorder,
    pub journal: Journal,
}

/// Drives a neighbor until it is stopped, or until the speaker is gone.
pub async fn run(peer: Peer, ends: Ends) {
    let mut transport = Transport {
        peer,
        streams: [None, None],
        dialling: None,
        buffer: vec![0; ONE_READ].into_boxed_slice(),
        reported: Instant::now(),
        unconfirmed: BTreeMap::new(),
        attempts: Rate::new(ATTEMPTS_TOLD),
        sessions: Rate::new(SESSIONS_TOLD),
        ends,
    };
    loop {
        transport.settle();
        if transport.peer.is_stopped() {
            return transport.report(Instant::now());
        }
        if !transport.wait().await {
            return;
        }
        // A socket that is always readable never makes its task wait: without this, one neighbor
        // that sends without end would keep the thread from all others and from the decision.
        tokio::task::yield_now().await;
    }
}

struct Transport {
    peer: Peer,
    streams: [Option<TcpStream>; 2],
    dialling: Option<BoxFuture<'static, Result<TcpStream, String>>>,
    buffer: Box<[u8]>,
    reported: Instant,
    /// Failures whose withdrawal is not yet written: by revision, when each was known.
    unconfirmed: BTreeMap<u64, Instant>,
    attempts: Rate,
    sessions: Rate,
    ends: Ends,
}

impl Transport {
    /// Does everything that can be done without waiting.
    fn settle(&mut self) {
        let now = Instant::now();
        let before = self.peer.delivery();
        self.peer.handle_timeout(now);
        if self.peer.poll_dial(now) {
            let (neighbor, internal) = (self.peer.neighbor().clone(), self.peer.is_internal());
            self.dialling = Some(async move { socket::dial(&neighbor, internal).await }.boxed());
        }
        self.peer.poll_updates(now);
        for origin in Origin::BOTH {
            self.flush(origin, now);
            self.close(origin, now);
        }
        let delivery = self.peer.delivery();
        // Before the log: its lines are no part of what is measured.
        self.confirm(delivery);
        let told = self.log(now);
        if told || delivery != before {
            self.report(now);
            self.ends.ring.notify_one();
        } else if now.duration_since(self.reported) >= REPORT_EVERY {
            // Ages alone: the speaker comes for them by itself, for all neighbors at once.
            self.report(now);
        }
    }

    /// Writes what the kernel takes.
    fn flush(&mut self, origin: Origin, now: Instant) {
        let Some(stream) = &self.streams[origin as usize] else { return };
        while !self.peer.out(origin).is_empty() {
            match stream.try_write(self.peer.out(origin)) {
                Ok(count) => self.peer.handle_written(origin, count, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.peer.handle_written(origin, 0, now);
                }
                Err(error) => return self.lost(origin, &error.to_string(), now),
            }
        }
    }

    /// Ends a connection as far as it can be ended by now.
    fn close(&mut self, origin: Origin, now: Instant) {
        while let Some(close) = self.peer.poll_close(origin, now) {
            match (close, &self.streams[origin as usize]) {
                (Close::Half, Some(stream)) => socket::end_writing(stream),
                (Close::Half, None) => {}
                (Close::Whole, _) => self.streams[origin as usize] = None,
            }
        }
    }

    fn lost(&mut self, origin: Origin, how: &str, now: Instant) {
        self.streams[origin as usize] = None;
        self.peer.handle_closed(origin, format!("the connection was lost: {how}"), now);
    }

    /// Measures failure → withdrawal written.
    fn confirm(&mut self, delivery: Delivery) {
        if !delivery.established {
            return self.unconfirmed.clear();
        }
        while let Some(first) = self.unconfirmed.first_entry() {
            if *first.key() > delivery.written {
                return;
            }
            self.ends.recorder.observe(first.remove().elapsed().as_secs_f64());
        }
    }

    /// Waits for the next thing and takes it. False when the speaker is gone.
    async fn wait(&mut self) -> bool {
        let deadline = self.peer.next_deadline();
        let next_report = self.reported + REPORT_EVERY;
        let wake = deadline.map_or(next_report, |at| at.min(next_report));
        let [dialled, accepted] = &self.streams;
        let waits = |origin: Origin| !self.peer.out(origin).is_empty();
        let dialling: OptionFuture<_> = self.dialling.as_mut().into();
        tokio::select! {
            biased;
            changed = self.ends.wanted.changed() => {
                if changed.is_err() {
                    return false;
                }
                let wanted = self.ends.wanted.borrow_and_update().clone();
                if let Some(cause) = wanted.cause() {
                    self.unconfirmed.insert(wanted.revision(), cause);
                }
                self.peer.set_wanted(wanted);
            }
            // Before the reads, which may be ready for ever.
            command = self.ends.commands.recv() => match command {
                None => return false,
                Some(command) => self.obey(command),
            },
            () = readable(dialled) => self.read(Origin::Dialled),
            () = readable(accepted) => self.read(Origin::Accepted),
            () = writable(dialled), if waits(Origin::Dialled) => {}
            () = writable(accepted), if waits(Origin::Accepted) => {}
            Some(result) = dialling => {
                self.dialling = None;
                let now = Instant::now();
                match result {
                    Ok(stream) => self.connected(Origin::Dialled, stream, now),
                    Err(words) => self.peer.handle_dial_failed(words, now),
                }
            }
            () = sleep_until(wake.into()) => {}
        }
        true
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Accepted(stream) => {
                match socket::welcome(&stream, self.peer.neighbor(), self.peer.is_internal()) {
                    Ok(()) => self.connected(Origin::Accepted, stream, now),
                    Err(words) => {
                        if self.attempts.admit(now) {
                            warn!(neighbor = self.peer.neighbor().name, "connection refused: {words}");
                        }
                        self.peer.handle_suspicion(words, now);
                    }
                }
            }
            Command::Configure(neighbor) => self.peer.set_neighbor(*neighbor),
            Command::Suspect(words) => self.peer.handle_suspicion(words, now),
            Command::Stop(notification) => self.peer.stop(&notification, now),
        }
    }

    fn connected(&mut self, origin: Origin, stream: TcpStream, now: Instant) {
        let connected = match stream.local_addr() {
            Ok(local) => self.peer.handle_connected(origin, local.ip().to_canonical(), now),
            Err(error) => {
                if origin == Origin::Dialled {
                    self.peer.handle_dial_failed(error.to_string(), now);
                }
                Err(error.to_string())
            }
        };
        match connected {
            Ok(()) => self.streams[origin as usize] = Some(stream),
            Err(words) if self.attempts.admit(now) => {
                info!(neighbor = self.peer.neighbor().name, "connection closed at once: {words}");
            }
            Err(_) => {}
        }
    }

    fn read(&mut self, origin: Origin) {
        let Some(stream) = &self.streams[origin as usize] else { return };
        let read = stream.try_read(&mut self.buffer);
        let now = Instant::now();
        match read {
            Ok(0) => self.lost(origin, "the neighbor closed it", now),
            Ok(count) => self.peer.handle_octets(origin, &self.buffer[..count], now),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.lost(origin, &error.to_string(), now),
        }
    }

    /// Tells the log what happened. True when there was something.
    fn log(&mut self, now: Instant) -> bool {
        for rate in [&mut self.attempts, &mut self.sessions] {
            if let Some(count) = rate.poll(now) {
                info!(
                    neighbor = self.peer.neighbor().name,
                    "{count} more lines like those before were not written"
                );
            }
        }
        let mut told = false;
        while let Some(event) = self.peer.poll_event() {
            told = true;
            let neighbor = self.peer.neighbor();
            let name = neighbor.name.as_str();
            self.note(name, &event);
            let of_an_attempt = matches!(event, PeerEvent::Ended { was_established: false, .. });
            let rate = if of_an_attempt { &mut self.attempts } else { &mut self.sessions };
            if !rate.admit(now) {
                continue;
            }
            match event {
                PeerEvent::Established { remote_id, hold_time } => {
                    info!(neighbor = name, address = %neighbor.address, asn = neighbor.asn.0, %remote_id, hold_time, "session established");
                }
                PeerEvent::Ended { words, was_established: true } => {
                    warn!(neighbor = name, "session ended: {words}");
                }
                PeerEvent::Ended { words, .. } => info!(neighbor = name, "no session: {words}"),
                PeerEvent::Sent(all) => {
                    let announced = all.iter().filter(|told| told.attributes.is_some()).count();
                    let withdrawn = all.len() - announced;
                    info!(neighbor = name, withdrawn, announced, "routes sent");
                }
                PeerEvent::TreatedAsWithdraw { what, total } => {
                    warn!(
                        neighbor = name,
                        total, "malformed UPDATE taken as a withdrawal (RFC 7606): {what}"
                    );
                }
            }
        }
        told
    }

    /// The journal remembers sessions and what was said in them; attempts are for the log.
    fn note(&self, name: &str, event: &PeerEvent) {
        let neighbor = || name.to_owned();
        let session = |up, words| Event::Session { neighbor: neighbor(), up, words };
        match event {
            PeerEvent::Established { remote_id, hold_time } => {
                let words = format!("established with {remote_id}, hold time {hold_time} s");
                self.ends.journal.note(None, session(true, words));
            }
            PeerEvent::Ended { words, was_established: true } => {
                self.ends.journal.note(None, session(false, words.clone()));
            }
            PeerEvent::Sent(all) => {
                let mut scribe = Scribe::default();
                for told in all {
                    let route = told.attributes.as_ref().map(|it| scribe.write(it));
                    let prefix = told.prefix.to_string();
                    self.ends.journal.note(told.cause, Event::Update { neighbor: neighbor(), prefix, route });
                }
            }
            PeerEvent::Ended { .. } | PeerEvent::TreatedAsWithdraw { .. } => {}
        }
    }

    fn report(&mut self, now: Instant) {
        self.reported = now;
        let report = Report { delivery: self.peer.delivery(), status: Arc::new(self.peer.status(now)) };
        self.ends.report.send_replace(report);
    }
}

/// A slot without a connection is never ready.
async fn readable(stream: &Option<TcpStream>) {
    match stream {
        // An error shows itself again at the read that follows.
        Some(stream) => drop(stream.readable().await),
        None => pending().await,
    }
}

async fn writable(stream: &Option<TcpStream>) {
    match stream {
        Some(stream) => drop(stream.writable().await),
        None => pending().await,
    }
}
