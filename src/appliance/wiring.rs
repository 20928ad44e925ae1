//! Every task, thread and channel of the process, named in one place.
//!
//! ```text
//!              ┌── thread "health" ──┐        ┌──────────── thread "routing" ─────────────┐
//!  plan ──────►│ prober              │─ view ►│ announcer ─ wanted ►│ speaker             │
//!              │  probes, held conns │        │  decide, addresses  │  neighbor NAME … ───┼──► routers
//!              └──────────┬──────────┘        │      ▲── delivered ─┘  │                  │
//!                         │                   └──┼───┼─────────────────┼──────────────────┘
//!                      services          drains ─┘ prefixes        neighbors             (status documents)
//!                         └────────────────┬───────┴─────────────────┘
//!  control runtime:  admin ◄── status ─────┘       SIGHUP, `reload` ──► reload ──► plan, policy, bgp (watches)
//!                    /metrics /healthz             `drain` ───────────► drains ──► drains (watch)
//!                      ▲ events                    SIGTERM ───────────► shutdown phases
//!                      │                           traffic ◄─ watched ─ announcer ◄─ flows ─ traffic
//!  thread "journal": keeper ◄── notes (lossy, bounded): verdicts, decisions, UPDATEs, sessions, commands
//!                       └──► STATE/journal
//!
//!  thread "addresses" ◄─ needed ─ announcer ◄─ bound ─ addresses (may wait for the kernel's locks)
//!  thread "watchdog" ◄── hearts of routing (hangs: the process aborts), health, control ──► systemd
//! ```
//!
//! State travels in `watch` channels (the latest wins, nothing queues); commands in bounded `mpsc`
//! channels. The routing thread does nothing but BGP and the decision, so that no load elsewhere
//! delays a keepalive or a withdrawal; health has a thread of its own for the same reason.
#![expect(clippy::disallowed_methods, reason = "driver: owns the clock of the process")]

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::ApplianceError;
use super::drains::Drains;
use super::reload::Reload;
use super::shutdown::{self, Request, Signals};
use crate::admin::{self, Ask, Command, Told, server::Server};
use crate::announce::AnnounceError;
use crate::announce::addresses::{self, AddressKeeper, Bound, Needed};
use crate::announce::announcer::{self, Announcer};
use crate::announce::drain::Measured;
use crate::announce::ledger::{self, Plan, Watched};
use crate::announce::traffic::Traffic;
use crate::bgp::origin::OriginSet;
use crate::bgp::speaker::Speaker;
use crate::config::Config;
use crate::config::bgp::Bgp;
use crate::config::environment::Environment;
use crate::health::{HealthError, HealthPlan, HealthView, Prober};
use crate::observe::journal::keeper::{self, Keeper};
use crate::observe::journal::recent::Recent;
use crate::observe::journal::{CauseIds, Event, Journal};
use crate::observe::log::Logs;
use crate::observe::metrics::Recorder;
use crate::observe::status::{NeighborStatus, PrefixStatus, ProcessStatus, ServiceStatus};
use crate::supervise::End;
use crate::supervise::notify::Notify;
use crate::supervise::restart::Duty;
use crate::supervise::thread::Thread;
use crate::supervise::tree::Tree;
use crate::supervise::watchdog::{Answer, Heartbeat, Watchdog, Watching};
use crate::sys::{descriptors, priority};

/// Commands of operators that wait; more are told that the process is busy.
const COMMANDS: usize = 4;
/// How often the process's own status is renewed; also the beat of the control loop's heart.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// How long the routing thread may do or wait for one thing. It is meant to need milliseconds, and while it hangs
/// its neighbors are told neither that we live nor what to withdraw.
const ROUTING_PATIENCE: Duration = Duration::from_millis(150);
/// The same for the others. A hung prober withdraws by its silence; the control loop may wait for disks.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long taking the addresses away may take; the thread is given up after twice that.
const LAST_ADDRESSES: Duration = Duration::from_millis(1_200);
/// How long the last entries of the journal may take to be written; the thread is given up after twice that.
const LAST_ENTRIES: Duration = Duration::from_millis(250);

/// The watches that a configuration is handed out through.
#[derive(Debug)]
pub struct Handouts {
    pub bgp: watch::Sender<Arc<Bgp>>,
    pub policy: watch::Sender<Arc<Plan>>,
    pub health: watch::Sender<Arc<HealthPlan>>,
}

/// The running process.
pub struct Appliance {
    routing: Thread<Result<(), ApplianceError>>,
    prober: Thread<Result<(), HealthError>>,
    addresses: Thread<Result<(), AnnounceError>>,
    keeper: Thread<()>,
    journal: Journal,
    /// Restartable parts.
    tree: Tree,
    signals: Signals,
    commands: mpsc::Receiver<Command>,
    reload: Reload,
    drains: Drains,
    notify: Notify,
    /// Beats whenever the status is renewed: the control loop runs, and so do its runtime's timers.
    heart: Heartbeat,
    watchdog: Watching,
    process: watch::Sender<Arc<ProcessStatus>>,
    started: Instant,
    stop_routing: CancellationToken,
    stop_addresses: CancellationToken,
    stop_others: CancellationToken,
    stop_journal: CancellationToken,
}

impl Appliance {
    /// Builds and starts everything. Nothing is announced before checks have proven it.
    ///
    /// # Errors
    /// When a socket, a thread or a signal handler cannot be had.
    pub async fn start(
        config: Config,
        path: PathBuf,
        state: PathBuf,
        environment: Environment,
        logs: Logs,
    ) -> Result<Self, ApplianceError> {
        let started = Instant::now();
        match descriptors::raise_limit() {
            Ok(limit) => debug!(limit, "file descriptors"),
            Err(error) => warn!("the limit of file descriptors stays as it is: {error}"),
        }
        let signals = Signals::install()?;
        let config = Arc::new(config);
        let recorder = Recorder::new();
        if let Err(error) = make_state(&state) {
            warn!(
                "{} cannot be written: {error}; nothing will be remembered over a restart",
                state.display()
            );
        }

        // Configuration → rooms.
        let (bgp, bgp_config) = watch::channel(Arc::new(config.bgp.clone()));
        let (policy, announce_plan) = watch::channel(Arc::new(Plan::of(&config)));
        let (health, health_plan) = watch::channel(Arc::new(health_plan(&config)));
        // Room → room.
        let (view, health_view) = watch::channel(Arc::new(HealthView::empty(started)));
        let (wanted, wanted_routes) = watch::channel(Arc::new(OriginSet::default()));
        let (delivered, deliveries) = watch::channel(0);
        let (needed, needed_addresses) = watch::channel(Arc::new(Needed::default()));
        let (bound, bound_addresses) = watch::channel(Arc::new(Bound::new()));
        let (watched, draining) = watch::channel(Arc::new(Vec::<Watched>::new()));
        let (measured, flows) = watch::channel(Arc::new(Measured::new()));
        let (orders, drained) = watch::channel(Arc::new(ledger::Drains::new()));
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        // Rooms → operators.
        let (process, process_status) = watch::channel(Arc::new(ProcessStatus::default()));
        let (neighbors, neighbor_status) = watch::channel(Arc::new(Vec::<NeighborStatus>::new()));
        let (prefixes, prefix_status) = watch::channel(Arc::new(Vec::<PrefixStatus>::new()));
        let (services, service_status) = watch::channel(Arc::new(Vec::<ServiceStatus>::new()));
        let (recent, events) = watch::channel(Arc::new(Recent::default()));
        // Rooms → journal.
        let (journal, notes, no_room) = Journal::new(keeper::NOTES);
        // Operators → process.
        let (ask, commands) = mpsc::channel(COMMANDS);

        // The first door to open: it also tells whether another edgeproxy runs here.
        let inputs = admin::Inputs {
            process: process_status,
            neighbors: neighbor_status,
            prefixes: prefix_status,
            services: service_status,
            events,
            recorder: recorder.clone(),
            commands: ask,
        };
        let server = Server::open(&config.admin, config.observe.metrics, inputs.clone()).await?;

        let stop_routing = CancellationToken::new();
        let stop_others = CancellationToken::new();
        let stop_addresses = CancellationToken::new();
        let stop_journal = CancellationToken::new();

        let mut watchdog = Watchdog::default();
        if let Some(patience) = environment.watchdog {
            watchdog.feed(Notify::new(environment.notify_socket.clone()), patience);
        }
        let heart = watchdog.heart("control", PATIENCE, Answer::Tell);

        let (stop, kept) = (stop_journal.clone(), state.join("journal"));
        let keeper = Thread::spawn("journal", move || async move {
            Keeper::new(kept, notes, no_room, recent).run(&stop);
        })?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        journal.note(None, Event::Started { version, generation: config.generation });

        let (stop, noted) = (stop_others.clone(), journal.clone());
        let beating = watchdog.heart("health", PATIENCE, Answer::Tell);
        let prober = Thread::spawn("health", move || async move {
            raise_priority();
            let _beating = beating.start();
            Prober::new(health_plan, view, services, noted, CauseIds::new(epoch, 0)).run(stop).await
        })?;

        let stop = stop_addresses.clone();
        let ends = addresses::Ends { needed: needed_addresses, bound, delivered: deliveries.clone() };
        let addresses =
            Thread::spawn("addresses", move || async move { AddressKeeper::new(ends)?.run(stop).await })?;

        let stop = stop_routing.clone();
        let noted = journal.clone();
        let beating = watchdog.heart("routing", ROUTING_PATIENCE, Answer::Abort);
        let routing = Thread::spawn("routing", move || async move {
            raise_priority();
            let _beating = beating.start();
            let ends = announcer::Ends {
                plan: announce_plan,
                health: health_view,
                needed,
                bound: bound_addresses,
                drains: drained,
                flows,
                watched,
                wanted,
                delivered: deliveries,
                status: prefixes,
                journal: noted.clone(),
            };
            let announcer = Announcer::new(ends, CauseIds::new(epoch, 1));
            let speaker = Speaker::new(bgp_config, wanted_routes, neighbors, delivered, recorder, noted);
            shutdown::route(announcer, speaker, stop).await
        })?;
        let watchdog = watchdog.start(raise_priority)?;

        let stop = stop_others.clone();
        let (door, metrics) = (config.admin.clone(), config.observe.metrics);
        let mut opened = Some(server);
        let tree = Tree::new(stop_others.clone()).child("admin", Duty::Restartable, move || {
            let (opened, stop) = (opened.take(), stop.clone());
            let (door, inputs) = (door.clone(), inputs.clone());
            async move {
                let server = match opened {
                    Some(server) => server,
                    None => Server::open(&door, metrics, inputs).await?,
                };
                server.run(stop).await
            }
        });
        let stop = stop_others.clone();
        let tree = tree.child("traffic", Duty::Restartable, move || {
            Traffic::new(draining.clone(), measured.clone()).run(stop.clone())
        });

        let drains = Drains::open(&state, orders, journal.clone(), CauseIds::new(epoch, 2));
        let reload = Reload::new(path, config, Handouts { bgp, policy, health }, logs);
        let notify = Notify::new(environment.notify_socket);
        for name in environment.unknown {
            warn!(name, "this environment variable means nothing to edgeproxy: the configuration is a file");
        }
        let appliance = Self {
            routing,
            prober,
            addresses,
            keeper,
            journal,
            tree,
            signals,
            commands,
            reload,
            drains,
            notify,
            heart,
            watchdog,
            process,
            started,
            stop_routing,
            stop_addresses,
            stop_others,
            stop_journal,
        };
        appliance.publish("starting");
        Ok(appliance)
    }

    /// Runs until a signal asks for the stop, or an essential part ends.
    ///
    /// # Errors
    /// [`ApplianceError`] of the part that ended.
    pub async fn run(mut self) -> Result<(), ApplianceError> {
        let config = self.reload.current();
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
                request = self.signals.next() => match request {
                    Request::Stop => break Ending::Other(Ok(())),
                    Request::Reload => drop(self.reload()),
                },
                Some(command) = self.commands.recv() => self.obey(command),
                fallen = self.tree.run() => if let Err(fallen) = fallen {
                    let why = fallen.to_string();
                    break Ending::Other(Err(ApplianceError::Failed { part: "admin", why }));
                },
                _ = status.tick() => self.publish("running"),
            }
        };
        self.stop(ending).await
    }

    fn obey(&mut self, Command { ask, reply }: Command) {
        let answer = match ask {
            Ask::Reload => self.reload().map_err(|why| format!("not reloaded, nothing changed:\n{why}")),
            Ask::Diff { text, base } => self.reload.compare(&text, &base),
            Ask::Drain { prefix, deadline, reason } => {
                self.drains.drain(self.reload.current(), &prefix, deadline, &reason)
            }
            Ask::Undrain { prefix } => self.drains.undrain(self.reload.current(), &prefix),
        };
        // An operator who went away needs no answer.
        drop(reply.send(answer));
    }

    fn reload(&mut self) -> Result<Told, String> {
        self.notify.reloading();
        let result = self.reload.reload();
        self.drains.follow(self.reload.current());
        match &result {
            Ok(changes) => info!("configuration reloaded\n{}", changes.text),
            Err(problems) => error!("configuration refused, nothing changed\n{problems}"),
        }
        self.notify.ready();
        self.publish("running");
        result
    }

    /// The planned stop: graceful shutdown, withdrawal, sessions closed, addresses gone; only then
    /// the doors for operators, and the journal last. A second signal ends it at once.
    async fn stop(mut self, ending: Ending) -> Result<(), ApplianceError> {
        self.notify.stopping();
        self.publish("stopping");
        self.stop_routing.cancel();
        let outcome = match ending {
            // It has closed its sessions before it ended.
            Ending::Routed(outcome) => outcome,
            Ending::Other(outcome) => {
                let routed = self.wait_for_routing().await;
                outcome.and(routed)
            }
        };
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

    fn publish(&self, phase: &str) {
        self.heart.beat();
        let document = self.reload.process_status(phase, self.started.elapsed(), self.watchdog.hung());
        self.process.send_replace(Arc::new(document));
    }
}

/// What brought the stop about.
enum Ending {
    /// The routing thread ended by itself: there is nothing left to wait for.
    Routed(Result<(), ApplianceError>),
    /// A signal, or another part's end.
    Other(Result<(), ApplianceError>),
}

/// The part of a configuration that the prober needs.
#[must_use]
pub fn health_plan(config: &Config) -> HealthPlan {
    HealthPlan { limits: config.health.clone(), services: config.services.clone() }
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

impl From<HealthError> for ApplianceError {
    fn from(error: HealthError) -> Self {
        Self::Failed { part: "health", why: error.to_string() }
    }
}

/// The state is for its owner only.
fn make_state(state: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(state)
}

fn raise_priority() {
    if let Err(error) = priority::raise_this_thread() {
        debug!("this thread keeps its ordinary priority: {error}");
    }
}
