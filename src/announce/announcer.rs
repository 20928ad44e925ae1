//! Drives the decision: the only writer of the wanted set, and the keeper of the anycast addresses.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: owns the clock and the netlink socket of the decision"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::AnnounceError;
use super::drain::Measured;
use super::facts::{Binding, Leaving};
use super::ledger::{Drains, Inputs, Ledger, Plan, Verdict, Watched};
use super::report;
use crate::bgp::origin::OriginSet;
use crate::config::anycast::{Anycast, AnycastPrefix};
use crate::health::HealthView;
use crate::observe::journal::{CauseIds, Event, Journal};
use crate::observe::status::{AddressStatus, PrefixStatus};
use crate::supervise::thread::Thread;
use crate::sys::address::{Addresses, Found, Owner};

/// Ages in the status documents are never older than this.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A judgement that is due in the past has been made already; the next look is after this.
const LATE: Duration = Duration::from_millis(100);
/// How often bound addresses are looked at, and missing ones tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long an address waits for its prefix's withdrawal to be written to every neighbor, and a
/// planned stop for the same. A neighbor that takes nothing for this long is as good as gone.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(3);
/// Netlink answers in microseconds or not at all.
const NETLINK_PATIENCE: Duration = Duration::from_secs(1);

/// The ends of the channels of the decision.
pub struct Ends {
    pub plan: watch::Receiver<Arc<Plan>>,
    pub health: watch::Receiver<Arc<HealthView>>,
    /// What operators drain.
    pub drains: watch::Receiver<Arc<Drains>>,
    /// The traffic of what drains.
    pub flows: watch::Receiver<Arc<Measured>>,
    pub watched: watch::Sender<Arc<Vec<Watched>>>,
    pub wanted: watch::Sender<Arc<OriginSet>>,
    /// Up to which revision the wanted set is written to every established neighbor.
    pub delivered: watch::Receiver<u64>,
    pub status: watch::Sender<Arc<Vec<PrefixStatus>>>,
    pub journal: Journal,
}

/// The decision's driver.
pub struct Announcer {
    ends: Ends,
    plan: Arc<Plan>,
    ledger: Ledger,
    leaving: Leaving,
    addresses: Addresses,
    bindings: BTreeMap<AnycastPrefix, Binding>,
    address_status: BTreeMap<(IpAddr, String), AddressStatus>,
    /// Addresses to take away once this revision is delivered, or at the deadline.
    leftover: Vec<(u64, Instant, IpAddr, String)>,
    /// Apart, because a message to the kernel waits there for whoever else changes interfaces, for seconds at worst.
    _netlink: Thread<()>,
}

impl Announcer {
    /// Opens what it needs. Nothing is bound or announced before it runs.
    ///
    /// # Errors
    /// [`AnnounceError::Netlink`].
    pub fn new(ends: Ends, ids: CauseIds) -> Result<Self, AnnounceError> {
        let (addresses, messages) = Addresses::open().map_err(AnnounceError::Netlink)?;
        let netlink = Thread::spawn("netlink", move || messages).map_err(AnnounceError::Netlink)?;
        let plan = ends.plan.borrow().clone();
        Ok(Self {
            ends,
            plan,
            ledger: Ledger::new(ids),
            leaving: Leaving::No,
            addresses,
            bindings: BTreeMap::new(),
            address_status: BTreeMap::new(),
            leftover: Vec::new(),
            _netlink: netlink,
        })
    }

    /// Decides until `stop`; then asks neighbors to look elsewhere, withdraws, and returns when the
    /// withdrawal is written. Addresses stay bound until [`release`](Self::release).
    ///
    /// # Errors
    /// [`AnnounceError::Gone`] when a channel's other end has ended.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<(), AnnounceError> {
        self.bind().await;
        self.judge();
        self.decide_until(stop.cancelled()).await?;
        if !self.ledger.wanted().is_empty() && !self.plan.graceful.is_zero() {
            info!(
                seconds = self.plan.graceful.as_secs_f64(),
                "announcing with GRACEFUL_SHUTDOWN before the withdrawal"
            );
            self.leaving = Leaving::Graceful;
            self.judge();
            self.decide_until(tokio::time::sleep(self.plan.graceful)).await?;
        }
        self.leaving = Leaving::Gone;
        self.judge();
        let revision = self.ledger.wanted().revision();
        let delivered = self.ends.delivered.wait_for(|delivered| *delivered >= revision);
        match timeout(DELIVERY_PATIENCE, delivered).await {
            Ok(Ok(_)) => info!("all prefixes are withdrawn"),
            Ok(Err(_)) => warn!("the speaker has ended; its sessions ended with it"),
            Err(_) => {
                warn!("a neighbor did not take the withdrawal in time; its session's end withdraws instead");
            }
        }
        Ok(())
    }

    /// Takes the addresses away that are ours: after the withdrawal, last of all.
    pub async fn release(mut self) {
        match timeout(NETLINK_PATIENCE, self.addresses.release_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("an anycast address could not be taken away: {error}"),
            Err(_) => warn!("anycast addresses could not be taken away in time"),
        }
    }

    async fn decide_until(&mut self, end: impl Future<Output = ()>) -> Result<(), AnnounceError> {
        tokio::pin!(end);
        let mut report = interval(REPORT_EVERY);
        let mut look = interval(LOOK_EVERY);
        look.reset();
        loop {
            let due = self.next_deadline();
            tokio::select! {
                biased;
                changed = self.ends.health.changed() => {
                    changed.map_err(|_| AnnounceError::Gone("health"))?;
                    self.judge();
                }
                changed = self.ends.plan.changed() => {
                    changed.map_err(|_| AnnounceError::Gone("configuration"))?;
                    self.follow_plan().await;
                }
                () = &mut end => return Ok(()),
                // Nobody may have renewed the facts: that alone is a reason to judge anew.
                () = sleep_until(due.into()) => self.judge(),
                changed = self.ends.drains.changed() => {
                    changed.map_err(|_| AnnounceError::Gone("drains"))?;
                    self.judge();
                }
                // Without measurements a drain waits for its deadline.
                Ok(()) = self.ends.flows.changed() => {
                    let measured = self.ends.flows.borrow_and_update().clone();
                    self.ledger.handle_flows(&measured);
                    self.judge();
                }
                changed = self.ends.delivered.changed(), if !self.leftover.is_empty() => {
                    changed.map_err(|_| AnnounceError::Gone("deliveries"))?;
                    self.release_leftover().await;
                }
                _ = report.tick() => {
                    self.release_leftover().await;
                    self.report();
                }
                _ = look.tick() => {
                    self.bind().await;
                    self.judge();
                }
            }
        }
    }

    /// When time alone changes a judgement: the health facts at hand stop being believed, a dwell or a
    /// step of a drain ends.
    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let stale = self.ends.health.borrow().as_of + self.plan.max_age + Duration::from_millis(1);
        let due = self.ledger.next_deadline(&self.plan).map_or(stale, |due| due.min(stale));
        // Once judged stale, the next look is in a while; news come by themselves.
        if due > now { due } else { now + LATE }
    }

    async fn follow_plan(&mut self) {
        self.plan = self.ends.plan.borrow_and_update().clone();
        self.bind().await;
        self.judge();
        let wanted: BTreeSet<_> = addresses_of(&self.plan).map(|(a, d)| (a, d.to_owned())).collect();
        let revision = self.ledger.wanted().revision();
        let deadline = Instant::now() + DELIVERY_PATIENCE;
        let gone: Vec<_> = self.address_status.keys().filter(|key| !wanted.contains(key)).cloned().collect();
        for key in gone {
            self.address_status.remove(&key);
            self.leftover.push((revision, deadline, key.0, key.1));
        }
        self.leftover.retain(|(_, _, address, device)| !wanted.contains(&(*address, device.clone())));
        self.release_leftover().await;
    }

    /// Takes addresses away whose prefixes are gone from the configuration and from every neighbor.
    async fn release_leftover(&mut self) {
        let delivered = *self.ends.delivered.borrow_and_update();
        let now = Instant::now();
        for (revision, deadline, address, device) in std::mem::take(&mut self.leftover) {
            if delivered < revision && now < deadline {
                self.leftover.push((revision, deadline, address, device));
            } else {
                match timeout(NETLINK_PATIENCE, self.addresses.release(address, &device)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        warn!(%address, device, "an anycast address could not be taken away: {error}");
                    }
                    Err(_) => warn!(%address, device, "an anycast address could not be taken away in time"),
                }
            }
        }
    }

    /// Binds every address of the plan that is not bound yet, and looks after the others: one look
    /// at the kernel's table for all of them.
    async fn bind(&mut self) {
        let plan = self.plan.clone();
        let found = match timeout(NETLINK_PATIENCE, self.addresses.look()).await {
            Ok(Ok(found)) => found,
            failed => {
                // Not knowing is no reason to withdraw what was bound a moment ago.
                let why = failed.map_or_else(
                    |_| "no answer in time".to_owned(),
                    |e| e.err().map_or_else(String::new, |e| e.to_string()),
                );
                warn!("the kernel's addresses cannot be read at the moment: {why}");
                return;
            }
        };
        for (prefix, anycast) in &plan.anycast {
            let mut binding = Binding::Bound;
            for address in &anycast.addresses {
                if let Err(error) = self.bind_one(*address, anycast, &found).await
                    && binding == Binding::Bound
                {
                    binding = Binding::Missing { address: *address, error };
                }
            }
            self.bindings.insert(*prefix, binding);
        }
        self.bindings.retain(|prefix, _| plan.anycast.contains_key(prefix));
    }

    async fn bind_one(&mut self, address: IpAddr, anycast: &Anycast, found: &Found) -> Result<(), String> {
        let device = anycast.device.as_str();
        let bound = timeout(NETLINK_PATIENCE, self.addresses.bind(address, device, found)).await;
        let bound = match bound {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("the kernel did not answer in time".to_owned()),
        };
        let state = match &bound {
            Ok(Owner::Ours) => "ours",
            Ok(Owner::Operator) => "operator",
            Err(_) => "missing",
        };
        let status = AddressStatus {
            address: address.to_string(),
            device: device.to_owned(),
            state: state.to_owned(),
            error: bound.as_ref().err().cloned(),
        };
        let key = (address, device.to_owned());
        if self.address_status.get(&key).is_none_or(|old| old.state != status.state) {
            match &bound {
                Ok(_) => info!(%address, device, owner = state, "anycast address is bound"),
                Err(error) => error!(%address, device, "anycast address is not bound: {error}"),
            }
        }
        self.address_status.insert(key, status);
        bound.map(drop)
    }

    /// Judges all prefixes and publishes what follows.
    fn judge(&mut self) {
        let view = self.ends.health.borrow_and_update().clone();
        let drains = self.ends.drains.borrow_and_update().clone();
        let before = self.ledger.wanted().revision();
        let inputs = Inputs {
            plan: &self.plan,
            view: &view,
            bindings: &self.bindings,
            drains: &drains,
            leaving: self.leaving,
        };
        let changed = self.ledger.judge(inputs, Instant::now());
        if self.ledger.wanted().revision() != before {
            self.ends.wanted.send_replace(self.ledger.wanted().clone());
        }
        let watched = self.ledger.watched(&self.plan);
        self.ends.watched.send_if_modified(|old| {
            let changed = **old != watched;
            if changed {
                *old = Arc::new(watched);
            }
            changed
        });
        for verdict in changed.iter().filter(|verdict| verdict.news) {
            self.tell(verdict);
        }
        if !changed.is_empty() {
            self.report();
        }
    }

    fn tell(&self, verdict: &Verdict) {
        let Verdict { prefix, announcement, before, cause, news: _ } = verdict;
        let (state, reason) = (announcement.state.name(), announcement.reason.name());
        let why = announcement.reason.sentence();
        if verdict.turned() {
            info!(%prefix, state, reason, "{why}");
        }
        let event = Event::Decision {
            prefix: prefix.to_string(),
            state: state.to_owned(),
            before: before.name().to_owned(),
            reason: reason.to_owned(),
            why,
        };
        self.ends.journal.note(Some(*cause), event);
    }

    fn report(&self) {
        let now = Instant::now();
        let status = self.ledger.entries().filter_map(|(prefix, announcement)| {
            let anycast = self.plan.anycast.get(prefix)?;
            let bound = |address: &IpAddr| self.address_status.get(&(*address, anycast.device.clone()));
            Some(PrefixStatus {
                addresses: anycast.addresses.iter().filter_map(bound).cloned().collect(),
                cause: self.ledger.cause_of(prefix),
                drain: self.ledger.ladder(prefix).map(|ladder| report::drain(ladder, now)),
                damping: report::damping(anycast, announcement, now),
                ..report::announcement(*prefix, anycast, announcement, now)
            })
        });
        self.ends.status.send_replace(Arc::new(status.collect()));
    }
}

fn addresses_of(plan: &Plan) -> impl Iterator<Item = (IpAddr, &str)> {
    plan.anycast.values().flat_map(|a| a.addresses.iter().map(|address| (*address, a.device.as_str())))
}
