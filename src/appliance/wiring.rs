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
//!  control runtime:  admin ◄── status ─────┘       SIGHUP, commands ──► transaction ──► plan, policy, bgp (watches)
//!                    /metrics /healthz                                       └► STATE/generations/
//!                    certificates: reminds of those that end
//!                                                  `drain` ───────────► drains ──► drains (watch)
//!                      ▲ events                    SIGTERM ───────────► shutdown phases
//!                      │                           traffic ◄─ watched ─ announcer ◄─ flows ─ traffic
//!  thread "journal": keeper ◄── notes (lossy, bounded): verdicts, decisions, UPDATEs, sessions, commands
//!                       └──► STATE/journal
//!
//!  threads "proxy-0" … ◄─ pulse (an octet through each relay) ─ thread "lease": renews ──► board (atomics) ─► announcer
//!                                                                      self-probes of every door ─► paths ─► announcer
//!
//!  threads "backhaul" (plane: TUN ◄──► UDP) ◄─ wanted, keys ─ "paths" ─ said (of backends at other POPs) ─► prober
//!                                           ─ report ─►           ◄─ verdicts, sources; probes and relays ◄──► POPs
//!
//!  threads "replication" ◄─ pop, sources, verdicts, prefixes: our rows      QUIC: rows, heartbeats, permits ◄──► POPs
//!     "store" (SQLite)   ◄─ stances ─ announcer ◄─ heard ─┘                 ─► fleet ─► control: health, catalog, tunnels
//!                        ◄─ desk: `fleet note`, permits of `drain`; held ─ drains
//!
//!  thread "addresses" ◄─ needed ─ announcer ◄─ bound ─ addresses (may wait for the kernel's locks)
//!  thread "watchdog" ◄── hearts of routing (hangs: the process aborts), health, control ──► systemd
//! ```
//!
//! State travels in `watch` channels (the latest wins, nothing queues); commands in bounded `mpsc`
//! channels. The routing thread does nothing but BGP and the decision, so that no load elsewhere
//! delays a keepalive or a withdrawal; health has a thread of its own for the same reason.
#![expect(clippy::disallowed_methods, reason = "driver: owns the clock of the process")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug, error, warn};

mod backhaul;
mod replication;
mod restartable;

pub(super) use self::replication::Desk;

use super::ApplianceError;
use super::drains::Drains;
use super::reload::{self, Handouts, InForce, health_plan, sources};
use super::running::Appliance;
use super::shutdown::{self, Signals};
use super::transaction::{Screens, Transactions};
use crate::admin::{self, server::Server};
use crate::announce::addresses::{self, AddressKeeper, Bound, Needed};
use crate::announce::announcer::{self, Announcer};
use crate::announce::drain::Measured;
use crate::announce::ledger::{self, Plan, Watched};
use crate::bgp::origin::OriginSet;
use crate::bgp::speaker::Speaker;
use crate::catalog::fleet::Fleet;
use crate::catalog::publisher::Publisher;
use crate::catalog::remote::Said;
use crate::catalog::stance::{Heard, Stances};
use crate::catalog::traffic::Closing;
use crate::catalog::tunnels::Tunnels;
use crate::catalog::view::{Verdicts, View};
use crate::config::environment::Environment;
use crate::config::generation::{Beginning, Fault, Note};
use crate::health::{HealthView, Prober};
use crate::observe::journal::keeper::{self, Keeper};
use crate::observe::journal::recent::Recent;
use crate::observe::journal::{CauseIds, Event, Journal};
use crate::observe::log::Logs;
use crate::observe::metrics::Recorder;
use crate::observe::status::backhaul::BackhaulStatus;
use crate::observe::status::fleet::FleetStatus;
use crate::observe::status::traffic::ProxyStatus;
use crate::observe::status::{NeighborStatus, PrefixStatus, ProcessStatus, ServiceStatus};
use crate::proxy::ProxyError;
use crate::proxy::plan::Planner;
use crate::proxy::pulse::{self, Pulse};
use crate::proxy::report::Report;
use crate::proxy::selfprobe::SelfProbes;
use crate::proxy::totals::Totals;
use crate::proxy::worker::Worker;
use crate::replication::voters::Held;
use crate::supervise::lease::Board;
use crate::supervise::lease::paths::Paths;
use crate::supervise::notify::Notify;
use crate::supervise::thread::Thread;
use crate::supervise::watchdog::{Answer, Watchdog};
use crate::sys::{crash, descriptors, priority};

/// Commands of operators that wait; more are told that the process is busy.
const COMMANDS: usize = 4;
/// Backends that failed clients and wait to be looked at; more of them change nothing.
const SUSPECTS: usize = 64;
/// Lists of connections that one worker may owe.
const ROLL_CALLS: usize = 4;
/// Questions about single clients that wait; more are told that the data plane is busy.
const CHOICES: usize = 16;
/// How long the routing thread may do or wait for one thing. It is meant to need milliseconds, and while it hangs
/// its neighbors are told neither that we live nor what to withdraw.
const ROUTING_PATIENCE: Duration = Duration::from_millis(150);
/// The same for the others. A hung prober withdraws by its silence; the control loop may wait for disks.
const PATIENCE: Duration = Duration::from_secs(3);

impl Appliance {
    /// Builds and starts everything. Nothing is announced before checks have proven it.
    ///
    /// # Errors
    /// When a socket, a thread or a signal handler cannot be had.
    pub async fn start(
        beginning: Beginning,
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
        let (catalog, catalog_sources) = watch::channel(Arc::new(sources(&config)));
        let workers = config.proxy.workers.map_or_else(processors, usize::from);
        let mut planner = Planner::new(workers);
        let (proxy, proxy_plan) = watch::channel(Arc::new(planner.plan(&config)));
        let (carried, proxied) = watch::channel(Arc::new(planner.flows().clone()));
        // Room → room.
        let (view, health_view) = watch::channel(Arc::new(HealthView::empty(started)));
        let (suspect, suspects) = mpsc::channel(SUSPECTS);
        let (verdicts, backend_verdicts) = watch::channel(Arc::new(Verdicts::new()));
        let (said, said_of_others) = watch::channel(Arc::new(Said::default()));
        let (dug, known_tunnels) = watch::channel(Arc::new(Tunnels::new()));
        let (closing, to_close) = watch::channel(Arc::new(Closing::new()));
        let (choices, catalog_view) = watch::channel(Arc::new(View::default()));
        let (wanted, wanted_routes) = watch::channel(Arc::new(OriginSet::default()));
        let (delivered, deliveries) = watch::channel(0);
        let (stances, own_stances) = watch::channel(Arc::new(Stances::default()));
        // Before replication runs, and if it never does, the others are there and not heard.
        let members = config.replication.as_ref().map_or(0, |replication| replication.peers.len());
        let own = config.pop.id.as_str().into();
        let (hear, heard) = watch::channel(Arc::new(Heard { own, members, ..Heard::default() }));
        let heard = config.replication.as_ref().map(|_| heard);
        let (needed, needed_addresses) = watch::channel(Arc::new(Needed::default()));
        let (bound, bound_addresses) = watch::channel(Arc::new(Bound::new()));
        let (watched, draining) = watch::channel(Arc::new(Vec::<Watched>::new()));
        let (measured, flows) = watch::channel(Arc::new(Measured::new()));
        let (command, commanded) = watch::channel(None);
        let board = Arc::new(Board::new(workers, started, config.proxy.lease.time));
        let (paths, path_health) = watch::channel(Arc::new(Paths { probing: true, ..Paths::default() }));
        let (orders, drained) = watch::channel(Arc::new(ledger::Drains::new()));
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let tunnels = config.backhaul.clone().map(watch::channel);
        let (tunnels, tunnel_config) = tunnels.unzip();
        let replicated = config.replication.clone().map(watch::channel);
        let (replicated, replication_config) = replicated.unzip();
        let (pop, pop_row) = watch::channel(Arc::new(reload::pop(&config)));
        let (desk, asked_there) = watch::channel(None);
        let (hold, held) = watch::channel(Arc::new(Held::default()));
        let (fleet, told_of_pops) = watch::channel(Arc::new(Fleet::default()));
        // Rooms → operators.
        let (told_of_fleet, fleet_status) = watch::channel(Arc::new(FleetStatus::default()));
        let (linked, links) = watch::channel(Arc::new(BackhaulStatus::default()));
        let (process, process_status) = watch::channel(Arc::new(ProcessStatus::default()));
        let (neighbors, neighbor_status) = watch::channel(Arc::new(Vec::<Arc<NeighborStatus>>::new()));
        let (prefixes, prefix_status) = watch::channel(Arc::new(Vec::<PrefixStatus>::new()));
        let (services, service_status) = watch::channel(Arc::new(Vec::<ServiceStatus>::new()));
        let (traffic, proxy_status) = watch::channel(Arc::new(ProxyStatus::default()));
        let (recent, events) = watch::channel(Arc::new(Recent::default()));
        // Rooms → journal.
        let (journal, notes, no_room) = Journal::new(keeper::NOTES);
        // Operators → process.
        let (roll_calls, asked): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(ROLL_CALLS)).unzip();
        let (choose, chosen) = mpsc::channel(CHOICES);
        let (ask, commands) = mpsc::channel(COMMANDS);

        let screens = Screens {
            neighbors: neighbor_status.clone(),
            prefixes: prefix_status.clone(),
            services: service_status.clone(),
        };
        // The first door to open: it also tells whether another edgeproxy runs here.
        let inputs = admin::Inputs {
            process: process_status,
            neighbors: neighbor_status,
            prefixes: prefix_status.clone(),
            services: service_status,
            proxy: proxy_status,
            backhaul: config.backhaul.as_ref().map(|_| links),
            fleet: config.replication.as_ref().map(|_| fleet_status),
            roll_calls,
            choices: choose,
            events,
            recorder: recorder.clone(),
            commands: ask,
        };
        let server = Server::open(&config.admin, config.observe.metrics, inputs.clone()).await?;

        let stop_routing = CancellationToken::new();
        let stop_others = CancellationToken::new();
        let stop_addresses = CancellationToken::new();
        let stop_proxy = CancellationToken::new();
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
            let prober = Prober::new(
                health_plan,
                view,
                services,
                verdicts,
                suspects,
                said_of_others,
                noted,
                CauseIds::new(epoch, 0),
            );
            beating.over(prober.run(stop)).await
        })?;

        let stop = stop_others.clone();
        let totals = Arc::new(Totals::new(suspect));
        let (plan, view) = (proxy_plan.clone(), catalog_view.clone());
        let report = Report::new(plan, view, Arc::clone(&totals), started, traffic, chosen);
        let (lines, wrists): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| pulse::line()).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let pulse = Pulse::new(lines, proxy_plan.clone(), Arc::clone(&board));
        let self_probes = SelfProbes::new(proxy_plan.clone(), Arc::clone(&totals.desk), paths);
        let tunnel_ends = tunnel_config.map(|config| backhaul::Ends {
            config,
            sources: catalog_sources.clone(),
            verdicts: backend_verdicts.clone(),
            said: Arc::new(said),
            status: Arc::new(linked),
            tunnels: Arc::new(dug),
        });
        let replication_ends = replication_config.map(|config| replication::Ends {
            state: state.clone(),
            config,
            pop: pop_row,
            sources: catalog_sources.clone(),
            verdicts: backend_verdicts.clone(),
            prefixes: prefix_status.clone(),
            stances: own_stances,
            tunnels: known_tunnels,
            heard: Arc::new(hear),
            held,
            desk: Arc::new(desk),
            fleet: Arc::new(fleet),
            status: Arc::new(told_of_fleet),
        });
        let publisher = Publisher::new(catalog_sources, backend_verdicts, choices);
        let lease = Thread::spawn("lease", move || async move {
            raise_priority();
            let ((), (), (), felt) = tokio::join!(
                publisher.run(stop.clone()),
                report.run(stop.clone()),
                self_probes.run(stop.clone()),
                pulse.run(stop),
            );
            felt.map_err(ProxyError::from)
        })?;
        let mut proxy_workers = Vec::with_capacity(workers);
        for (index, (asked, wrist)) in asked.into_iter().zip(wrists).enumerate() {
            let (plan, view) = (proxy_plan.clone(), catalog_view.clone());
            let worker = Worker::new(
                index,
                plan,
                view,
                Arc::clone(&totals),
                asked,
                wrist.on(&board),
                to_close.clone(),
                started,
            );
            let stop = stop_proxy.clone();
            proxy_workers.push(Thread::spawn_local(format!("proxy-{index}"), move || worker.run(stop))?);
        }

        let stop = stop_addresses.clone();
        let ends = addresses::Ends { needed: needed_addresses, bound, delivered: deliveries.clone() };
        let addresses =
            Thread::spawn("addresses", move || async move { AddressKeeper::new(ends)?.run(stop).await })?;

        // Before the decision, which must not announce what is drained, however long the disk takes.
        let drains = Drains::open(&state, orders, hold, journal.clone(), CauseIds::new(epoch, 2));
        let ids = CauseIds::new(epoch, 3);

        let stop = stop_routing.clone();
        let (noted, leases) = (journal.clone(), Arc::clone(&board));
        let beating = watchdog.heart("routing", ROUTING_PATIENCE, Answer::Abort);
        let routing = Thread::spawn("routing", move || async move {
            raise_priority();
            let ends = announcer::Ends {
                plan: announce_plan,
                health: health_view,
                needed,
                bound: bound_addresses,
                board: leases,
                paths: path_health,
                command: commanded,
                drains: drained,
                flows,
                watched,
                heard,
                stances,
                wanted,
                delivered: deliveries,
                status: prefixes,
                journal: noted.clone(),
            };
            let announcer = Announcer::new(ends, CauseIds::new(epoch, 1));
            let speaker = Speaker::new(bgp_config, wanted_routes, neighbors, delivered, recorder, noted);
            beating.over(shutdown::route(announcer, speaker, stop)).await
        })?;
        let watchdog = watchdog.start(raise_priority)?;

        let tree = restartable::tree(
            restartable::Parts {
                door: config.admin.clone(),
                metrics: config.observe.metrics,
                server,
                inputs,
                draining,
                measured,
                proxied,
                closing,
                plan: proxy_plan,
                tunnels: tunnel_ends,
                replication: replication_ends,
            },
            &stop_others,
        );

        let in_force = InForce::new(
            config,
            source,
            Handouts {
                bgp,
                policy,
                health,
                catalog,
                proxy,
                planner,
                flows: carried,
                tunnels,
                replication: replicated,
                pop,
                fleet: told_of_pops,
            },
            logs,
        );
        let transactions = Transactions::new(path, in_force, store, screens);
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
            transactions,
            drains,
            ids,
            command,
            desk: asked_there,
            asking: JoinSet::new(),
            notify,
            heart,
            watchdog,
            process,
            started,
            lease,
            board,
            workers: proxy_workers,
            stop_routing,
            stop_proxy,
            stop_addresses,
            stop_others,
            stop_journal,
        };
        appliance.publish("starting");
        Ok(appliance)
    }
}

/// How many processors this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn raise_priority() {
    if let Err(error) = priority::raise_this_thread() {
        debug!("this thread keeps its ordinary priority: {error}");
    }
}
