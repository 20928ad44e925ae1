//! Drives replication: connections, the disk, the time, and what this POP has to say.
#![expect(clippy::disallowed_methods, reason = "driver: owns the clock and the connections of replication")]

mod acting;
mod beating;
mod distances;
mod link;
mod permits;
mod reminding;
mod saying;
mod show;
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::link::Link;
pub use self::permits::PermitRequest;
use self::permits::Permitting;
use super::ReplicationError;
use super::dial::Dials;
use super::frame::Request;
use super::heartbeat::Heartbeats;
use super::identity::{Identity, Notary};
use super::membership::Membership;
use super::merge::Limits;
use super::quic::{Door, Heard, Served};
use super::record::Change;
use super::replica::{Replica, Ticket, Unwritten};
use super::store::{Loaded, Missed, Work};
use super::tables::Projection;
use super::version::{Origin, Point};
use super::voters::{Held, Holder, Voter};
use crate::catalog::fleet::{self, Fleet, Pop};
use crate::catalog::stance::{self, Stances};
use crate::catalog::tunnels::Tunnels;
use crate::catalog::view::{Sources, Verdicts};
use crate::config::pop_certificate::Authorities;
use crate::config::replication::Replication;
use crate::observe::status::PrefixStatus;
use crate::observe::status::fleet::FleetStatus;
use crate::supervise::task::Task;

/// What was heard and waits; more of it waits on its connection.
const HEARD: usize = 1_024;
/// Asks and pushes under way; beyond that, pushes are left to comparing.
const MOST_ASKED: usize = 4_096;
/// Rows that are brought to others at once.
const SERVED: usize = 8;
/// How long somebody waits who asks for rows when there is no room.
const BUSY: Duration = Duration::from_millis(500);
/// How often the status is told, and what changed in the tables at most.
const TELL: Duration = Duration::from_millis(500);
const PUBLISH: Duration = Duration::from_millis(5);
/// How soon after somebody is heard of; others may be heard of right after.
const HEARD_OF: Duration = Duration::from_millis(50);

/// Somebody of this POP wants rows of ours changed.
pub struct Write {
    pub changes: Vec<Change>,
    /// Told when they are on disk and on their way to the others, or why not.
    pub done: Done,
}

/// Whoever waits for a write.
pub type Done = Box<dyn FnOnce(Result<Point, Unwritten>) + Send>;

/// What replication needs of the others, and gives them.
pub struct Ends {
    pub config: watch::Receiver<Arc<Replication>>,
    /// This POP, as the others are to know it.
    pub pop: watch::Receiver<Arc<Pop>>,
    pub sources: watch::Receiver<Arc<Sources>>,
    pub verdicts: watch::Receiver<Arc<Verdicts>>,
    pub prefixes: watch::Receiver<Arc<Vec<PrefixStatus>>>,
    /// How this POP stands for its prefixes, and where it is told how the others do.
    pub stances: watch::Receiver<Arc<Stances>>,
    pub heard: Arc<watch::Sender<Arc<stance::Heard>>>,
    /// Empty without a backhaul.
    pub tunnels: watch::Receiver<Arc<Tunnels>>,
    pub writes: mpsc::Receiver<Write>,
    /// Who wants to drain, and what is drained.
    pub permits: mpsc::Receiver<PermitRequest>,
    pub held: watch::Receiver<Arc<Held>>,
    pub work: mpsc::Sender<Work>,
    pub missed: watch::Receiver<Missed>,
    pub fleet: Arc<watch::Sender<Arc<Fleet>>>,
    pub status: Arc<watch::Sender<Arc<FleetStatus>>>,
}

/// Replication of this POP, running.
pub struct Replicator {
    ends: Ends,
    config: Arc<Replication>,
    identity: Arc<Identity>,
    replica: Replica<Notary>,
    door: Door,
    heard: mpsc::Receiver<Heard>,
    tell: mpsc::Sender<Heard>,
    _accepting: Task<()>,
    heartbeats: Heartbeats,
    membership: Membership,
    /// Whether many have vanished at once, as was said last.
    doubted: bool,
    permitting: Permitting,
    dials: Dials,
    links: BTreeMap<Origin, Link>,
    /// Those whose place another has taken, until the peer knows it too.
    replaced: BTreeMap<Origin, (Instant, Link)>,
    /// How far the others are, as was told last.
    distances: BTreeMap<Arc<str>, fleet::Link>,
    measure_at: Instant,
    /// Days that the certificate is good for, as was said last.
    reminded: Option<i64>,
    /// Why the last attempt to reach somebody failed.
    unreached: BTreeMap<Origin, String>,
    asked: JoinSet<()>,
    served: Arc<Semaphore>,
    /// The answer of the disk to our last rows.
    persisting: Option<oneshot::Receiver<Result<(), String>>>,
    /// Origins whose rows the disk has not taken: all of them are sent again.
    unkept: BTreeSet<Origin>,
    tickets: BTreeMap<Ticket, Done>,
    ticket: u64,
    projection: Projection,
    /// The tables have changed and were not published.
    dirty: bool,
    publish_at: Instant,
    tell_at: Instant,
    resolve_at: Instant,
    resolved: Arc<watch::Sender<BTreeMap<Origin, Vec<SocketAddr>>>>,
    ways: watch::Receiver<BTreeMap<Origin, Vec<SocketAddr>>>,
    _resolving: Option<Task<()>>,
}

/// Who we are, by the configuration.
///
/// # Errors
/// When the certificates are no use.
pub fn identity(config: &Replication) -> Result<Arc<Identity>, ReplicationError> {
    let unfit = |error: String| ReplicationError::Identity(error);
    let authorities = Authorities::new(&config.fleet, &config.authorities);
    let authorities = Arc::new(authorities.map_err(|error| unfit(error.to_string()))?);
    let identity = Identity::new(authorities, &config.certificate, &config.key.0);
    identity.map(Arc::new).map_err(|error| unfit(error.to_string()))
}

fn limits(config: &Replication) -> Limits {
    let limits = config.limits;
    Limits {
        rows: limits.rows,
        weight: limits.octets,
        rate: limits.rows_per_second,
        total_rows: limits.total_rows,
        total_weight: limits.total_octets,
    }
}

impl Replicator {
    /// Opens the port, and begins with what the disk has.
    ///
    /// # Errors
    /// When the port cannot be had, or the certificates are no use.
    pub fn open(mut ends: Ends, loaded: Loaded) -> Result<Self, ReplicationError> {
        let now = Instant::now();
        let mut instance = [0; 8];
        SystemRandom::new().fill(&mut instance).map_err(|_| ReplicationError::NoRandomness)?;
        let instance = u64::from_be_bytes(instance);
        let config = Arc::clone(&ends.config.borrow_and_update());
        let identity = identity(&config)?;
        let region: Arc<str> = ends.pop.borrow_and_update().region.as_str().into();
        let (tell, heard) = mpsc::channel(HEARD);
        let door = Door::open(config.listen, &identity, tell.clone())?;
        let accepting = Task::spawn("accept", door.accept(Arc::clone(identity.authorities())));
        let notary = Notary::new(Arc::clone(&identity));
        let origin = identity.origin().clone();
        let replica = Replica::new(&origin, region, instance, limits(&config), notary, loaded.origins, now);
        let projection = Projection::of(replica.ledger());
        let (resolved, ways) = watch::channel(BTreeMap::new());
        let unkept = loaded.damaged.iter().filter_map(|name| Origin::new(name)).collect();
        info!(listen = %config.listen, fleet = config.fleet, pop = %origin, "replication runs");
        let stances = ends.stances.borrow_and_update().clone();
        // Promises that may be older than what was promised are no promises.
        let reliable = !loaded.fresh && loaded.set_aside.is_none();
        let voter = Voter::new(loaded.slots.get(permits::SLOT).filter(|_| reliable).map(Vec::as_slice));
        let incarnation = replica.ledger().head(&origin).map_or(0, |signed| signed.head.point.incarnation);
        let held = ends.held.borrow_and_update().permits.clone();
        let holder = Holder::new(permits::voters(&config.voters), incarnation, held);
        let mut replicator = Self {
            ends,
            heartbeats: Heartbeats::new(stances, now),
            membership: Membership::new(origin.clone(), incarnation, instance, now),
            doubted: false,
            permitting: Permitting::new(voter, holder, now),
            identity,
            replica,
            door,
            heard,
            tell,
            _accepting: accepting,
            dials: Dials::new(origin, instance),
            links: BTreeMap::new(),
            replaced: BTreeMap::new(),
            distances: BTreeMap::new(),
            measure_at: now + distances::EVERY,
            reminded: None,
            unreached: BTreeMap::new(),
            asked: JoinSet::new(),
            served: Arc::new(Semaphore::new(SERVED)),
            persisting: None,
            unkept,
            tickets: BTreeMap::new(),
            ticket: 0,
            projection,
            dirty: true,
            publish_at: now,
            tell_at: now,
            resolve_at: now,
            resolved: Arc::new(resolved),
            ways,
            _resolving: None,
            config,
        };
        replicator.resolve(now);
        replicator.say();
        Ok(replicator)
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When a new configuration's certificates are no use.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ReplicationError> {
        loop {
            self.settle(Instant::now());
            let deadline = self.next_deadline();
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = self.ends.stances.changed() => {
                    let stances = self.ends.stances.borrow_and_update().clone();
                    self.heartbeats.handle_own(stances, Instant::now());
                }
                Some(heard) = self.heard.recv() => self.hear(heard, Instant::now()),
                done = persisted(&mut self.persisting) => {
                    self.persisting = None;
                    self.replica.handle_persisted(done);
                }
                Some(write) = self.ends.writes.recv() => {
                    self.ticket += 1;
                    self.tickets.insert(Ticket(self.ticket), write.done);
                    self.replica.handle_write(Ticket(self.ticket), write.changes);
                }
                Some(request) = self.ends.permits.recv() => self.want_permits(request),
                Ok(()) = self.ends.held.changed() => self.hold(Instant::now()),
                result = self.permitting.saved() => self.kept(&result),
                changed = self.ends.config.changed() => {
                    if changed.is_ok() {
                        self.reconfigure(Instant::now())?;
                    }
                }
                Ok(()) = self.ends.pop.changed() => self.say(),
                Ok(()) = self.ends.sources.changed() => self.say(),
                Ok(()) = self.ends.verdicts.changed() => self.say(),
                Ok(()) = self.ends.prefixes.changed() => self.say(),
                Ok(()) = self.ends.missed.changed() => {
                    let missed = Arc::clone(&self.ends.missed.borrow_and_update());
                    self.unkept.extend(missed.iter().cloned());
                }
                Ok(()) = self.ways.changed() => {
                    self.want(Instant::now());
                }
                Ok(()) = self.ends.tunnels.changed() => {
                    self.ends.tunnels.mark_unchanged();
                    self.want(Instant::now());
                }
                Some(_) = self.asked.join_next() => {}
                () = sleep_until(deadline.into()) => {}
            }
        }
        self.leave(Instant::now());
        self.door.close().await;
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        let mut deadline = self.replica.next_deadline().min(self.tell_at).min(self.resolve_at);
        deadline = deadline.min(self.heartbeats.next_deadline()).min(self.permitting.next_deadline());
        deadline = deadline.min(self.membership.next_deadline()).min(self.measure_at);
        if self.dirty {
            deadline = deadline.min(self.publish_at);
        }
        self.dials.next_deadline().map_or(deadline, |dial| deadline.min(dial))
    }

    /// Everything that follows from what happened.
    fn settle(&mut self, now: Instant) {
        if self.replica.next_deadline() <= now {
            self.replica.handle_timeout(now);
        }
        while let Some(effect) = self.replica.poll_effect() {
            self.act(effect, now);
        }
        self.beat(now);
        self.gather(now);
        self.permit(now);
        while let Some((peer, address)) = self.dials.poll_dial(now) {
            match self.door.dial(&peer, address, &self.identity) {
                Ok(dial) => drop(self.asked.spawn(dial)),
                Err(error) => {
                    self.unreached.insert(peer.clone(), error.to_string());
                    self.dials.handle_unreached(&peer, now);
                }
            }
        }
        if !self.unkept.is_empty() {
            self.keep_again();
        }
        if self.dirty && self.publish_at <= now {
            self.dirty = false;
            self.publish_at = now + PUBLISH;
            let known = self.projection.fleet().pops.keys();
            let reached = known.filter(|name| self.is_current(name)).cloned().collect();
            self.projection.handle_reached(&reached);
            self.ends.fleet.send_replace(Arc::new(self.projection.fleet().clone()));
            self.tell_at = now;
        }
        if self.tell_at <= now {
            self.tell_at = now + TELL;
            self.ends.status.send_replace(Arc::new(self.status(now)));
        }
        if self.resolve_at <= now {
            self.resolve(now);
        }
        if self.measure_at <= now {
            self.measure(now);
            self.remind();
        }
    }

    fn hear(&mut self, heard: Heard, now: Instant) {
        match heard {
            Heard::Connected { peer, connection, dialed } => self.connected(&peer, connection, dialed, now),
            Heard::Unreached { peer, address, why } => {
                debug!(%peer, %address, why, "not reached");
                self.unreached.insert(peer.clone(), format!("{address}: {why}"));
                self.dials.handle_unreached(&peer, now);
            }
            Heard::Closed { peer, id, why } => self.closed(&peer, id, why, now),
            Heard::Push { peer, spread, offer } => self.replica.handle_push(&peer, spread, offer, now),
            Heard::Compare { peer, request, answer } => {
                if let Request::Compare { buckets, yours } = request {
                    let _ = answer.send(self.replica.handle_compare(&peer, &buckets, yours));
                }
            }
            Heard::Fetch { peer, request, answer } => {
                let Request::Fetch { origin, have } = request else { return };
                let served = match Arc::clone(&self.served).try_acquire_owned() {
                    Err(_) => Err(BUSY),
                    Ok(room) => {
                        let offer = self.replica.handle_fetch(&peer, &origin, have);
                        Ok(offer.map(|offer| Served { offer, room }))
                    }
                };
                let _ = answer.send(served);
            }
            Heard::Compared { peer, known } => self.replica.handle_compared(&peer, &known, now),
            Heard::Fetched { peer, origin, fetched } => {
                self.replica.handle_fetched(&peer, &origin, fetched, now);
            }
            Heard::Datagram { peer, id, octets } => {
                if self.links.get(&peer).is_some_and(|link| link.id == id) {
                    self.datagram(&peer, &octets, now);
                }
            }
            Heard::Permit { peer, word, answer } => self.vote(&peer, &word, answer, now),
            Heard::Permitted { peer, permit, word } => self.permitted(&peer, permit, word.as_deref()),
        }
    }

    fn reconfigure(&mut self, now: Instant) -> Result<(), ReplicationError> {
        let config = Arc::clone(&self.ends.config.borrow_and_update());
        let identity = identity(&config)?;
        self.door.identify(&identity)?;
        self._accepting = Task::spawn("accept", self.door.accept(Arc::clone(identity.authorities())));
        self.replica.trust_mut().renew(Arc::clone(&identity));
        self.replica.limit(limits(&config));
        self.permitting.reconfigure(permits::voters(&config.voters));
        (self.identity, self.config) = (identity, config);
        self.members();
        self.resolve(now);
        Ok(())
    }
}

/// What the disk says; never, if it was not asked.
async fn persisted(asked: &mut Option<oneshot::Receiver<Result<(), String>>>) -> Result<(), String> {
    match asked {
        Some(asked) => asked.await.unwrap_or_else(|_| Err("the disk is busy or gone".to_owned())),
        None => std::future::pending().await,
    }
}
