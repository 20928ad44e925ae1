//! Every task, thread and channel of the process, named in one place.
//!
//! ```text
//!              ┌── thread "health" ──┐        ┌──────────── thread "routing" ─────────────┐
//!  plan ──────►│ prober              │─ view ►│ announcer ─ wanted ►│ speaker             │
//!              │  probes, held conns │        │  decide, addresses  │  neighbor NAME … ───┼──► routers
//!              └──────────┬──────────┘        │      ▲── delivered ─┘  │                  │
//!                         │                   └──────┼─────────────────┼──────────────────┘
//!                      services                   prefixes          neighbors            (status documents)
//!                         └───────────────┬────────┴─────────────────┘
//!  control runtime:  admin ◄── status ────┘        SIGHUP, commands ──► transaction ──► plan, policy, bgp (watches)
//!                    /metrics /healthz                                       └► STATE/generations/
//!                                                  SIGTERM ───────────► shutdown phases
//! ```
//!
//! State travels in `watch` channels (the latest wins, nothing queues); commands in bounded `mpsc`
//! channels. The routing thread does nothing but BGP and the decision, so that no load elsewhere
//! delays a keepalive or a withdrawal; health has a thread of its own for the same reason.
#![expect(clippy::disallowed_methods, reason = "driver: owns the clock of the process")]

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug, error, info, warn};

use super::ApplianceError;
use super::reload::InForce;
use super::shutdown::{self, Request, Signals};
use super::transaction::{Transactions, Watched};
use crate::admin::{self, Ask, Command, Told, server::Server};
use crate::announce::announcer::{self, Announcer};
use crate::announce::ledger::Plan;
use crate::bgp::origin::OriginSet;
use crate::bgp::speaker::Speaker;
use crate::config::Config;
use crate::config::bgp::Bgp;
use crate::config::environment::Environment;
use crate::config::generation::{Beginning, Fault, Note};
use crate::health::{HealthError, HealthPlan, HealthView, Prober};
use crate::observe::log::Logs;
use crate::observe::metrics::Recorder;
use crate::observe::status::{NeighborStatus, PrefixStatus, ProcessStatus, ServiceStatus};
use crate::supervise::End;
use crate::supervise::notify::Notify;
use crate::supervise::restart::Duty;
use crate::supervise::thread::Thread;
use crate::supervise::tree::Tree;
use crate::sys::{crash, descriptors, priority};

/// Commands of operators that wait; more are told that the process is busy.
const COMMANDS: usize = 4;
/// How often the process's own status is renewed.
const STATUS_EVERY: Duration = Duration::from_millis(500);

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
    /// Restartable parts.
    tree: Tree,
    signals: Signals,
    commands: mpsc::Receiver<Command>,
    transactions: Transactions,
    notify: Notify,
    process: watch::Sender<Arc<ProcessStatus>>,
    started: Instant,
    stop_routing: CancellationToken,
    stop_others: CancellationToken,
}

impl Appliance {
    /// Builds and starts everything. Nothing is announced before checks have proven it.
    ///
    /// # Errors
    /// When a socket, a thread or a signal handler cannot be had.
    pub async fn start(
        beginning: Beginning,
        path: PathBuf,
        environment: Environment,
        logs: Logs,
    ) -> Result<Self, ApplianceError> {
        let started = Instant::now();
        match descriptors::raise_limit() {
            Ok(limit) => debug!(limit, "file descriptors"),
            Err(error) => warn!("the limit of file descriptors stays as it is: {error}"),
        }
        let signals = Signals::install()?;
        let Beginning { config, source, mut store, notes } = beginning;
        for Note { level, words } in notes {
            match level {
                Level::ERROR => error!("{words}"),
                _ => warn!("{words}"),
            }
        }
        if let Some(at) = environment.fault {
            warn!("TEST HOOK: this process kills itself at the step {} of the next transaction", at.name());
            store.arm(Fault { at, end: crash::crash });
        }
        let config = Arc::new(config);
        let recorder = Recorder::new();

        // Configuration → rooms.
        let (bgp, bgp_config) = watch::channel(Arc::new(config.bgp.clone()));
        let (policy, announce_plan) = watch::channel(Arc::new(Plan::of(&config)));
        let (health, health_plan) = watch::channel(Arc::new(health_plan(&config)));
        // Room → room.
        let (view, health_view) = watch::channel(Arc::new(HealthView::empty(started)));
        let (wanted, wanted_routes) = watch::channel(Arc::new(OriginSet::default()));
        let (delivered, deliveries) = watch::channel(0);
        // Rooms → operators.
        let (process, process_status) = watch::channel(Arc::new(ProcessStatus::default()));
        let (neighbors, neighbor_status) = watch::channel(Arc::new(Vec::<NeighborStatus>::new()));
        let (prefixes, prefix_status) = watch::channel(Arc::new(Vec::<PrefixStatus>::new()));
        let (services, service_status) = watch::channel(Arc::new(Vec::<ServiceStatus>::new()));
        // Operators → process.
        let (ask, commands) = mpsc::channel(COMMANDS);

        let watched = Watched {
            neighbors: neighbor_status.clone(),
            prefixes: prefix_status.clone(),
            services: service_status.clone(),
        };
        // The first door to open: it also tells whether another edgeproxy runs here.
        let inputs = admin::Inputs {
            process: process_status,
            neighbors: neighbor_status,
            prefixes: prefix_status,
            services: service_status,
            recorder: recorder.clone(),
            commands: ask,
        };
        let server = Server::open(&config.admin, config.observe.metrics, inputs.clone()).await?;

        let stop_routing = CancellationToken::new();
        let stop_others = CancellationToken::new();

        let stop = stop_others.clone();
        let prober = Thread::spawn("health", move || {
            raise_priority();
            Prober::new(health_plan, view, services).run(stop)
        })?;

        let stop = stop_routing.clone();
        let routing = Thread::spawn("routing", move || async move {
            raise_priority();
            let ends = announcer::Ends {
                plan: announce_plan,
                health: health_view,
                wanted,
                delivered: deliveries,
                status: prefixes,
            };
            let announcer = Announcer::new(ends)?;
            let speaker = Speaker::new(bgp_config, wanted_routes, neighbors, delivered, recorder);
            shutdown::route(announcer, speaker, stop).await
        })?;

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

        let in_force = InForce::new(config, source, Handouts { bgp, policy, health }, logs);
        let transactions = Transactions::new(path, in_force, store, watched);
        let notify = Notify::new(environment.notify_socket);
        for name in environment.unknown {
            warn!(name, "this environment variable means nothing to edgeproxy: the configuration is a file");
        }
        let appliance = Self {
            routing,
            prober,
            tree,
            signals,
            commands,
            transactions,
            notify,
            process,
            started,
            stop_routing,
            stop_others,
        };
        appliance.publish("starting");
        Ok(appliance)
    }

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
                request = self.signals.next() => match request {
                    Request::Stop => break Ending::Other(Ok(())),
                    Request::Reload => drop(self.reload()),
                },
                // Before the commands: what is late to confirm is undone.
                () = at(self.transactions.next_deadline()) => {
                    if let Some(words) = self.transactions.handle_timeout(Instant::now()) {
                        warn!("{words}");
                        self.publish("running");
                    }
                }
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
        let now = Instant::now();
        let answer = match ask {
            Ask::Reload => self.reload().map_err(|why| format!("not reloaded, nothing changed:\n{why}")),
            Ask::Diff { text, base } => self.transactions.in_force().compare(&text, &base),
            Ask::Plan(offered) => self.transactions.plan(offered, now),
            Ask::Apply { offered, confirm_within, allow_withdraw } => {
                let applied = self.transactions.apply(offered, confirm_within, allow_withdraw, now);
                self.transacted("apply", applied)
            }
            Ask::Confirm => {
                let confirmed = self.transactions.confirm();
                self.transacted("confirm", confirmed)
            }
            Ask::Rollback { to, allow_withdraw } => {
                let back = self.transactions.rollback(to, allow_withdraw, now);
                self.transacted("rollback", back)
            }
        };
        // An operator who went away needs no answer.
        drop(reply.send(answer));
    }

    fn reload(&mut self) -> Result<Told, String> {
        self.notify.reloading();
        let result = self.transactions.reload(Instant::now());
        match &result {
            Ok(changes) => info!("configuration reloaded\n{}", changes.text),
            Err(problems) => error!("configuration refused, nothing changed\n{problems}"),
        }
        self.notify.ready();
        self.publish("running");
        result
    }

    fn transacted(&self, what: &str, result: Result<Told, String>) -> Result<Told, String> {
        match &result {
            Ok(told) => info!("{what}\n{}", told.text),
            Err(why) => error!("{what} refused, nothing changed\n{why}"),
        }
        self.publish("running");
        result
    }

    /// The planned stop: graceful shutdown, withdrawal, sessions closed, addresses gone; only then
    /// the doors for operators. A second signal ends it at once.
    async fn stop(mut self, ending: Ending) -> Result<(), ApplianceError> {
        self.notify.stopping();
        self.publish("stopping");
        self.stop_routing.cancel();
        let outcome = match ending {
            // It has closed its sessions and taken its addresses away before it ended.
            Ending::Routed(outcome) => outcome,
            Ending::Other(outcome) => {
                let routed = self.wait_for_routing().await;
                outcome.and(routed)
            }
        };
        self.stop_others.cancel();
        let _ = self.tree.run().await;
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
        let document = self.transactions.process_status(phase, self.started.elapsed(), Instant::now());
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

/// Waits for a moment; for ever if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

fn raise_priority() {
    if let Err(error) = priority::raise_this_thread() {
        debug!("this thread keeps its ordinary priority: {error}");
    }
}
