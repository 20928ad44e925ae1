//! The life of the process after its start: signals, commands, and the order of its stop.
#![expect(clippy::disallowed_methods, reason = "driver: owns the clock of the process")]

mod drain;

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::drain::Asked;
pub(super) use self::drain::Wish;
use super::ApplianceError;
use super::drains::Drains;
use super::shutdown::{Request, Signals};
use super::transaction::Transactions;
use super::wiring::Desk;
use crate::admin::{Ask, Command, Told};
use crate::announce::AnnounceError;
use crate::health::HealthError;
use crate::observe::journal::{CauseId, CauseIds, Event, Journal};
use crate::observe::status::{LeasesStatus, ProcessStatus};
use crate::proxy::ProxyError;
use crate::replication::replica::Unwritten;
use crate::replication::replicator::{Done, Write};
use crate::replication::tables::note;
use crate::supervise::End;
use crate::supervise::lease::Board;
use crate::supervise::notify::Notify;
use crate::supervise::thread::Thread;
use crate::supervise::tree::Tree;
use crate::supervise::watchdog::{Heartbeat, Watching};

/// How often the process's own status is renewed; also the beat of the control loop's heart.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// How long taking the addresses away may take; the thread is given up after twice that.
const LAST_ADDRESSES: Duration = Duration::from_millis(1_200);
/// How long a worker may take to end after its connections' time is over.
const LAST_CONNECTIONS: Duration = Duration::from_millis(500);
/// How long the last entries of the journal may take to be written; the thread is given up after twice that.
const LAST_ENTRIES: Duration = Duration::from_millis(250);

/// What the end of a trial is called that nobody has confirmed.
const UNDO: &str = "undo";

/// The running process.
pub struct Appliance {
    pub(super) routing: Thread<Result<(), ApplianceError>>,
    pub(super) prober: Thread<Result<(), HealthError>>,
    pub(super) addresses: Thread<Result<(), AnnounceError>>,
    pub(super) keeper: Thread<()>,
    pub(super) journal: Journal,
    /// Restartable parts.
    pub(super) tree: Tree,
    pub(super) signals: Signals,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) transactions: Transactions,
    pub(super) drains: Drains,
    /// Names for commands, and the last of them.
    pub(super) ids: CauseIds,
    pub(super) command: watch::Sender<Option<CauseId>>,
    /// Where replication is asked for something, while it runs.
    pub(super) desk: watch::Receiver<Option<Desk>>,
    /// The drain that the voters are asked about.
    pub(super) asking: JoinSet<Asked>,
    pub(super) notify: Notify,
    /// Beats whenever the status is renewed: the control loop runs, and so do its runtime's timers.
    pub(super) heart: Heartbeat,
    pub(super) watchdog: Watching,
    pub(super) process: watch::Sender<Arc<ProcessStatus>>,
    pub(super) started: Instant,
    /// The proxy's threads; none of them ends by itself.
    pub(super) workers: Vec<Thread<Result<(), ProxyError>>>,
    pub(super) lease: Thread<Result<(), ProxyError>>,
    /// When each worker last served.
    pub(super) board: Arc<Board>,
    pub(super) stop_routing: CancellationToken,
    pub(super) stop_proxy: CancellationToken,
    pub(super) stop_addresses: CancellationToken,
    pub(super) stop_others: CancellationToken,
    pub(super) stop_journal: CancellationToken,
}

impl Appliance {
    /// Runs until a signal asks for the stop, or an essential part ends.
    ///
    /// # Errors
    /// [`ApplianceError`] of the part that ended.
    pub async fn run(mut self) -> Result<(), ApplianceError> {
        let config = self.transactions.in_force().config();
        info!(
            pop = config.pop.id,
            generation = config.generation,
            "edgeproxy {} runs",
            env!("CARGO_PKG_VERSION")
        );
        self.notify.ready();
        let mut status = interval(STATUS_EVERY);
        let ending = loop {
            tokio::select! {
                biased;
                ended = &mut self.routing => break Ending::Routed(fallen("routing", ended)),
                ended = &mut self.prober => break Ending::Other(fallen("health", ended)),
                (ended, ..) = select_all(&mut self.workers) => break Ending::Other(fallen("proxy", ended)),
                ended = &mut self.lease => break Ending::Other(fallen("lease", ended)),
                request = self.signals.next() => match request {
                    Request::Stop => break Ending::Other(Ok(())),
                    Request::Reload => {
                        let cause = self.commanded();
                        drop(self.reload(cause));
                    }
                },
                // Before the commands: what is late to confirm is undone.
                () = at(self.transactions.next_deadline()) => {
                    let cause = self.commanded();
                    if let Some(text) = self.transactions.handle_timeout(Instant::now()) {
                        let document = serde_json::Value::Null;
                        drop(self.transacted(UNDO, Ok(Told { text, document }), cause));
                    }
                }
                Some(command) = self.commands.recv() => self.obey(command),
                Some(Ok(asked)) = self.asking.join_next() => self.voted(asked),
                fallen = self.tree.run() => if let Err(fallen) = fallen {
                    let why = fallen.to_string();
                    break Ending::Other(Err(ApplianceError::Failed { part: "admin", why }));
                },
                _ = status.tick() => {
                    self.transactions.handle_fleet();
                    self.publish("running");
                }
            }
        };
        self.stop(ending).await
    }

    fn obey(&mut self, Command { ask, reply }: Command) {
        let now = Instant::now();
        let cause = self.commanded();
        let answer = match ask {
            Ask::Note { text } => return self.note(&text, reply),
            Ask::Reload => self.reload(cause).map_err(|why| format!("not reloaded, nothing changed:\n{why}")),
            Ask::Diff { text, base } => self.transactions.in_force().compare(&text, &base),
            Ask::Plan(offered) => self.transactions.plan(offered, now),
            Ask::Apply { offered, confirm_within, allow_withdraw } => {
                let applied = self.transactions.apply(offered, confirm_within, allow_withdraw, now);
                self.transacted("apply", applied, cause)
            }
            Ask::Confirm => {
                let confirmed = self.transactions.confirm();
                self.transacted("confirm", confirmed, cause)
            }
            Ask::Rollback { to, allow_withdraw } => {
                let back = self.transactions.rollback(to, allow_withdraw, now);
                self.transacted("rollback", back, cause)
            }
            Ask::Drain { prefix, deadline, reason, force } => {
                return self.drain(Wish { prefix, deadline, reason, force, cause }, reply);
            }
            Ask::Undrain { prefix } => {
                self.drains.undrain(self.transactions.in_force().config(), &prefix, cause)
            }
        };
        // An operator who went away needs no answer.
        drop(reply.send(answer));
    }

    /// Tells all POPs something; answered when it is on disk.
    fn note(&self, text: &str, reply: oneshot::Sender<Result<Told, String>>) {
        let Some(Desk { writer, .. }) = self.desk.borrow().clone() else {
            let why = "replication does not run here: `edgeproxy fleet` says why, if this POP belongs to one";
            return drop(reply.send(Err(why.to_owned())));
        };
        let said = if text.is_empty() { "The note is gone." } else { "Told to all POPs." };
        let done: Done = Box::new(move |written| {
            let answer = written.map(|point| Told {
                text: format!("{said} This POP is at version {point}.\n"),
                document: serde_json::json!({ "version": point.to_string() }),
            });
            drop(reply.send(answer.map_err(|why| why.to_string())));
        });
        let changes = note(text).into_iter().collect();
        if let Err(full) = writer.try_send(Write { changes, done }) {
            (full.into_inner().done)(Err(Unwritten::Busy));
        }
    }

    /// A name for what is about to be done: whatever follows from it carries it.
    fn commanded(&mut self) -> CauseId {
        let cause = self.ids.next_id();
        self.command.send_replace(Some(cause));
        cause
    }

    fn reload(&mut self, cause: CauseId) -> Result<Told, String> {
        self.notify.reloading();
        let result = self.transactions.reload(Instant::now());
        let result = self.transacted("reload", result, cause);
        self.notify.ready();
        result
    }

    /// Whatever was put in force or refused is told to all who want to know.
    fn transacted(
        &mut self,
        what: &str,
        result: Result<Told, String>,
        cause: CauseId,
    ) -> Result<Told, String> {
        // What is on trial may be undone, and a drain must outlast that: its prefix would come back announced.
        if !self.transactions.is_pending() {
            self.drains.follow(self.transactions.in_force().config());
        }
        let words = match &result {
            Ok(told) => &told.text,
            Err(why) => why,
        };
        match result {
            // Nobody has asked for it: somebody should look.
            Ok(_) if what == UNDO => warn!("{what}: {words}"),
            Ok(_) => info!("{what}: done\n{words}"),
            Err(_) => error!("{what}: refused, nothing changed\n{words}"),
        }
        // The log has all of it; the journal has what it came to.
        let outcome = words.rsplit("\n\n").next().and_then(|last| last.lines().next());
        let words = outcome.unwrap_or_default().to_owned();
        let (command, accepted) = (what.to_owned(), result.is_ok());
        self.journal.note(Some(cause), Event::Operator { command, words, accepted });
        self.publish("running");
        result
    }

    /// The planned stop: graceful shutdown, withdrawal, sessions closed, addresses gone; only then
    /// the doors for operators, and the journal last. A second signal ends it at once.
    async fn stop(mut self, ending: Ending) -> Result<(), ApplianceError> {
        self.notify.stopping();
        self.publish("stopping");
        let cause = self.commanded();
        let words = "the process is being stopped".to_owned();
        self.journal.note(Some(cause), Event::Operator { command: "stop".to_owned(), words, accepted: true });
        self.stop_routing.cancel();
        let outcome = match ending {
            // It has closed its sessions before it ended.
            Ending::Routed(outcome) => outcome,
            Ending::Other(outcome) => {
                let routed = self.wait_for_routing().await;
                outcome.and(routed)
            }
        };
        // Withdrawn: what is still open is served to its end, within bounds.
        self.stop_proxy.cancel();
        if !matches!(outcome, Err(ApplianceError::Impatient)) {
            self.wait_for_workers().await;
        }
        // Last of all, after the sessions.
        self.stop_addresses.cancel();
        if !matches!(outcome, Err(ApplianceError::Impatient)) {
            match self.addresses.join(LAST_ADDRESSES).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => error!("the addresses are kept no more: {error}"),
                Err(end) => error!("the thread of the addresses {end}: some may still be bound"),
            }
        }
        self.stop_others.cancel();
        // Nobody publishes any more.
        drop(self.heart);
        let _ = self.tree.run().await;
        if outcome.is_ok() {
            self.journal.note(None, Event::Stopped);
        }
        self.stop_journal.cancel();
        if let Err(end) = self.keeper.join(LAST_ENTRIES).await {
            warn!("the journal {end}: its last entries may be missing");
        }
        outcome
    }

    /// Waits for the routing thread, which has been told to stop, and keeps operators informed.
    async fn wait_for_routing(&mut self) -> Result<(), ApplianceError> {
        let mut status = interval(STATUS_EVERY);
        loop {
            tokio::select! {
                biased;
                ended = &mut self.routing => return fallen("routing", ended),
                request = self.signals.next() => if request == Request::Stop {
                    return Err(ApplianceError::Impatient);
                },
                Some(command) = self.commands.recv() => {
                    let why = "edgeproxy is stopping and takes no commands any more";
                    drop(command.reply.send(Err(why.to_owned())));
                }
                _ = self.tree.run() => {}
                _ = status.tick() => self.publish("stopping"),
            }
        }
    }

    /// Waits until the workers have served what was open; a second signal ends that.
    async fn wait_for_workers(&mut self) {
        let most = self.transactions.in_force().config().proxy.drain + LAST_CONNECTIONS;
        let workers = std::mem::take(&mut self.workers);
        let mut joined = pin!(join_all(workers.into_iter().map(|worker| worker.join(most))));
        let mut status = interval(STATUS_EVERY);
        loop {
            tokio::select! {
                biased;
                ends = &mut joined => {
                    for end in ends {
                        if let Err(error) = fallen("proxy", end) {
                            error!("{error}");
                        }
                    }
                    return;
                }
                request = self.signals.next() => if request == Request::Stop {
                    return;
                },
                _ = status.tick() => self.publish("stopping"),
            }
        }
    }

    pub(super) fn publish(&self, phase: &str) {
        self.heart.beat();
        let (uptime, hung) = (self.started.elapsed(), self.watchdog.hung());
        let now = Instant::now();
        let mut document = self.transactions.process_status(phase, uptime, hung, now);
        document.leases = leases(&self.board, now);
        self.process.send_replace(Arc::new(document));
    }
}

/// None while no worker is asked to serve.
fn leases(board: &Board, now: Instant) -> Option<LeasesStatus> {
    let micros = |time: Duration| time.as_micros() as u64;
    let status = LeasesStatus {
        lease_us: micros(board.lease()),
        jitter_us: board.jitter().map(|(quantile, late)| (quantile, micros(late))).collect(),
        age_us: board.ages(now).map(|age| age.map(micros)).collect(),
    };
    status.age_us.iter().any(Option::is_some).then_some(status)
}

/// What brought the stop about.
enum Ending {
    /// The routing thread ended by itself: there is nothing left to wait for.
    Routed(Result<(), ApplianceError>),
    /// A signal, or another part's end.
    Other(Result<(), ApplianceError>),
}

fn fallen<E: Into<ApplianceError>>(
    part: &'static str,
    ended: Result<Result<(), E>, End>,
) -> Result<(), ApplianceError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(end) => Err(ApplianceError::Fallen { part, end }),
    }
}

impl From<ProxyError> for ApplianceError {
    fn from(error: ProxyError) -> Self {
        Self::Failed { part: "proxy", why: error.to_string() }
    }
}

impl From<HealthError> for ApplianceError {
    fn from(error: HealthError) -> Self {
        Self::Failed { part: "health", why: error.to_string() }
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
