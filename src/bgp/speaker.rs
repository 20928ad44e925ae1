//! The speaker's driver: accepts neighbors, keeps one task for each, and follows the configuration.
#![expect(clippy::disallowed_methods, reason = "driver: owns the listeners and the clock of the speaker")]

mod listeners;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::listeners::Listeners;
use super::BgpError;
use super::notification::Notification;
use super::origin::OriginSet;
use super::peer::{Local, Peer};
use super::rate::Rate;
use super::transport::{self, Command, Ends, Report};
use crate::config::bgp::{Bgp, Neighbor};
use crate::observe::journal::Journal;
use crate::observe::metrics::Recorder;
use crate::observe::status::NeighborStatus;
use crate::supervise::task::Task;
use crate::sys::drops::Drops;

/// Commands waiting for one neighbor: more than a reload and a burst of connections need.
const COMMANDS: usize = 8;
/// How often the kernel's drops are looked at while a session is missing.
const SUSPECT_EVERY: Duration = Duration::from_secs(2);
/// How often the neighbors' reports are merged when there are no news.
const MERGE_EVERY: Duration = Duration::from_secs(1);
/// How long stopped neighbors may take to write their last words.
const LAST_WORDS: Duration = Duration::from_millis(1500);
/// Lines of one kind in a minute that somebody outside can cause.
const TOLD: u32 = 6;

/// All neighbors and the listeners.
pub struct Speaker {
    config: watch::Receiver<Arc<Bgp>>,
    wanted: watch::Receiver<Arc<OriginSet>>,
    status: watch::Sender<Arc<Vec<Arc<NeighborStatus>>>>,
    delivered: watch::Sender<u64>,
    recorder: Recorder,
    journal: Journal,
    ring: Arc<Notify>,
    neighbors: BTreeMap<String, Running>,
    listeners: Listeners,
    drops: Drops,
    strangers: Rate,
}

/// A neighbor's task and the near ends of its channels.
struct Running {
    neighbor: Neighbor,
    local: Local,
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<Report>,
    task: Task<()>,
    dropped: Rate,
}

impl Running {
    /// Waits for the task's end. The channels live until then: a task whose commands are gone takes it
    /// that nobody waits for its last words.
    async fn ended(mut self) {
        let _ = (&mut self.task).await;
    }
}

impl Speaker {
    /// `delivered` tells up to which revision the wanted set is written to every established
    /// neighbor; neighbors without a session have nothing and wait for nothing.
    #[must_use]
    pub fn new(
        config: watch::Receiver<Arc<Bgp>>,
        wanted: watch::Receiver<Arc<OriginSet>>,
        status: watch::Sender<Arc<Vec<Arc<NeighborStatus>>>>,
        delivered: watch::Sender<u64>,
        recorder: Recorder,
        journal: Journal,
    ) -> Self {
        Self {
            config,
            wanted,
            status,
            delivered,
            recorder,
            journal,
            ring: Arc::new(Notify::new()),
            neighbors: BTreeMap::new(),
            listeners: Listeners::new(),
            drops: Drops::read().unwrap_or_default(),
            strangers: Rate::new(TOLD),
        }
    }

    /// Runs until `stop`, then closes every session with the configured words.
    ///
    /// # Errors
    /// [`BgpError::Listen`] when a configured address cannot be listened on.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), BgpError> {
        // At the start an address that cannot be had is the operator's to mend; later it is not worth
        // the sessions that stand (see follow_listeners).
        self.follow_listeners().into_iter().next().map_or(Ok(()), Err)?;
        self.follow_neighbors().await;
        let mut suspect = interval(SUSPECT_EVERY);
        let mut merge = interval(MERGE_EVERY);
        let ring = self.ring.clone();
        let ended = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                () = ring.notified() => self.publish(),
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        break Err(BgpError::DecisionGone);
                    }
                    self.wanted.mark_unchanged();
                    self.publish();
                }
                changed = self.config.changed() => {
                    if changed.is_err() {
                        break Ok(());
                    }
                    for error in self.follow_listeners() {
                        error!("{error}; sessions and other listeners stay as they are, the next reload tries again");
                    }
                    self.follow_neighbors().await;
                    self.publish();
                }
                _ = merge.tick() => self.publish(),
                // Before the connections, which may come without end.
                _ = suspect.tick() => {
                    self.suspect();
                    self.revive();
                    self.summarize();
                }
                (stream, from) = self.listeners.next() => self.welcome(stream, from),
            }
        };
        self.stop().await;
        ended
    }

    /// Brings the neighbors to the configuration; sessions that did not change stay.
    async fn follow_neighbors(&mut self) {
        let config = self.config.borrow_and_update().clone();
        let local = Local { asn: config.asn, id: config.router_id };
        let mut ending = Vec::new();
        for name in self.neighbors.keys().cloned().collect::<Vec<_>>() {
            let Some(running) = self.neighbors.get_mut(&name) else { continue };
            let last_words = match config.neighbors.iter().find(|n| n.name == name) {
                Some(new) if *new == running.neighbor && running.local == local => continue,
                Some(new) if survives(&running.neighbor, new) && running.local == local => {
                    let configure = Command::Configure(Box::new(new.clone()));
                    // The task takes commands at every turn; a channel that stays full is a hung task.
                    if matches!(timeout(LAST_WORDS, running.commands.send(configure)).await, Ok(Ok(()))) {
                        running.neighbor = new.clone();
                        continue;
                    }
                    Notification::configuration_change()
                }
                Some(_) => Notification::configuration_change(),
                None => Notification::deconfigured(),
            };
            ending.extend(self.neighbors.remove(&name).map(|running| (running, last_words)));
        }
        end(ending).await;
        for neighbor in &config.neighbors {
            if !self.neighbors.contains_key(&neighbor.name) {
                self.start(local, neighbor.clone());
            }
        }
    }

    fn follow_listeners(&mut self) -> Vec<BgpError> {
        let config = self.config.borrow().clone();
        let before: Vec<_> = self.neighbors.values().map(|running| &running.neighbor).collect();
        self.listeners.follow(&config, &before)
    }

    /// Starts neighbors again whose task has ended by itself: a panic is an end like any other.
    fn revive(&mut self) {
        let ended = self.neighbors.iter().filter(|(_, running)| running.task.is_finished());
        for name in ended.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            let Some(running) = self.neighbors.remove(&name) else { continue };
            error!(neighbor = name, "the neighbor's task ended unexpectedly; it is started again");
            self.start(running.local, running.neighbor);
            self.publish();
        }
    }

    fn start(&mut self, local: Local, neighbor: Neighbor) {
        let now = Instant::now();
        let wanted = self.wanted.clone();
        let seed = RandomState::new().hash_one(&neighbor.name);
        let current = wanted.borrow().clone();
        let peer = Peer::new(local, neighbor.clone(), current, seed, now);
        let (report, reports) =
            watch::channel(Report { delivery: peer.delivery(), status: Arc::new(peer.status(now)) });
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let ends = Ends {
            wanted,
            commands: inbox,
            report,
            ring: self.ring.clone(),
            recorder: self.recorder.clone(),
            journal: self.journal.clone(),
        };
        let task = Task::spawn(format!("neighbor {}", neighbor.name), transport::run(peer, ends));
        let running = Running { neighbor, local, commands, report: reports, task, dropped: Rate::new(TOLD) };
        self.neighbors.insert(running.neighbor.name.clone(), running);
    }

    /// Hands a connection to its neighbor; strangers are closed without an octet.
    fn welcome(&mut self, stream: TcpStream, from: SocketAddr) {
        let from: IpAddr = from.ip().to_canonical();
        let now = Instant::now();
        let known = self.neighbors.values_mut().find(|running| running.neighbor.address == from);
        match known {
            Some(running) => {
                let handed = running.commands.try_send(Command::Accepted(stream));
                if handed.is_err() && running.dropped.admit(now) {
                    info!(neighbor = running.neighbor.name, "connection dropped: others are still waiting");
                }
            }
            None if self.strangers.admit(now) => {
                info!(%from, "connection from an address that is no neighbor's");
            }
            None => {}
        }
    }

    /// Says how much was not written in the log.
    fn summarize(&mut self) {
        let now = Instant::now();
        if let Some(count) = self.strangers.poll(now) {
            info!("{count} more connections from addresses that are no neighbor's");
        }
        self.listeners.summarize(now);
        for running in self.neighbors.values_mut() {
            if let Some(count) = running.dropped.poll(now) {
                info!(neighbor = running.neighbor.name, "{count} more connections dropped");
            }
        }
    }

    /// Merges what the neighbors report.
    fn publish(&self) {
        let mut delivered = self.wanted.borrow().revision();
        let mut status = Vec::with_capacity(self.neighbors.len());
        for running in self.neighbors.values() {
            let report = running.report.borrow();
            if report.delivery.established && !running.task.is_finished() {
                delivered = delivered.min(report.delivery.written);
            }
            status.push(report.status.clone());
        }
        self.status.send_replace(Arc::new(status));
        self.delivered.send_if_modified(|old| std::mem::replace(old, delivered) != delivered);
    }

    /// Tells neighbors without a session what the kernel dropped meanwhile.
    fn suspect(&mut self) {
        // Read at every turn: what was dropped while all was well explains nothing later.
        let Ok(now) = Drops::read() else { return };
        let before = std::mem::replace(&mut self.drops, now);
        let missing = |running: &&Running| !running.report.borrow().delivery.established;
        for running in self.neighbors.values().filter(missing) {
            if let Some(words) = suspicion(&running.neighbor, before, now) {
                // Only words: when the channel is full they come again.
                let _ = running.commands.try_send(Command::Suspect(words));
            }
        }
    }

    async fn stop(&mut self) {
        let text = self.config.borrow().shutdown.text.clone();
        self.listeners.close();
        let last_words = Notification::shutdown(&text);
        let all = std::mem::take(&mut self.neighbors).into_values();
        end(all.map(|running| (running, last_words.clone())).collect()).await;
    }
}

/// Stops neighbors side by side; each has the same little time for its last words.
async fn end(neighbors: Vec<(Running, Notification)>) {
    for (running, last_words) in &neighbors {
        let _ = running.commands.try_send(Command::Stop(last_words.clone()));
    }
    let all = join_all(neighbors.into_iter().map(|(running, _)| running.ended()));
    if timeout(LAST_WORDS, all).await.is_err() {
        warn!("not every neighbor took the last words in time; those sessions end without them");
    }
}

/// Whether a session survives the change of its neighbor's configuration.
fn survives(old: &Neighbor, new: &Neighbor) -> bool {
    let adapted = Neighbor {
        export: new.export.clone(),
        degrade: new.degrade.clone(),
        drain: new.drain.clone(),
        next_hop: new.next_hop,
        max_prefixes: new.max_prefixes,
        ..old.clone()
    };
    adapted == *new
}

/// The kernel counts for all sockets together, so these words say what was seen, not who did it.
fn suspicion(neighbor: &Neighbor, before: Drops, now: Drops) -> Option<String> {
    let protected = neighbor.password.is_some();
    let seen = |count: fn(&Drops) -> u64| count(&now).saturating_sub(count(&before));
    if protected && seen(|d| d.md5_wrong) > 0 {
        return Some(
            "segments with a wrong TCP-MD5 signature arrive: perhaps the password here and at the neighbor differ"
                .to_owned(),
        );
    }
    if protected && seen(|d| d.md5_missing) > 0 {
        return Some(
            "segments without a TCP-MD5 signature arrive: perhaps the neighbor has no password for us"
                .to_owned(),
        );
    }
    if !protected && seen(|d| d.md5_unexpected) > 0 {
        return Some(
            "segments with a TCP-MD5 signature arrive: perhaps the neighbor has a password for us, and password_file is missing here"
                .to_owned(),
        );
    }
    if neighbor.ttl_security.is_some() && seen(|d| d.low_ttl) > 0 {
        return Some(
            "segments arrive with a TTL under what ttl_security asks for: perhaps the neighbor is further away, \
             or does not send with TTL 255"
                .to_owned(),
        );
    }
    None
}
