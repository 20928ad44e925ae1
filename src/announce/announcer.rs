//! Drives the decision: the only writer of the wanted set.
#![expect(clippy::disallowed_methods, reason = "driver: owns the clock of the decision")]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::AnnounceError;
use super::addresses::{Bound, Needed, Place};
use super::drain::Measured;
use super::facts::{Leaving, places};
use super::lease::{self, Alarm, DataPath};
use super::ledger::{Drains, Inputs, Ledger, Plan, Verdict, Watched};
use super::report;
use crate::bgp::origin::OriginSet;
use crate::catalog::stance::{Heard, Stances};
use crate::health::HealthView;
use crate::observe::journal::{CauseId, CauseIds, Event, Journal};
use crate::observe::status::PrefixStatus;
use crate::supervise::lease::Board;
use crate::supervise::lease::paths::Paths;

/// Ages in the status documents are never older than this.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A judgement that is due in the past has been made already; the next look is after this.
const LATE: Duration = Duration::from_millis(100);
/// How long a planned stop waits for the withdrawal to be written to every neighbor. One that takes
/// nothing for this long is as good as gone.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(3);

/// The ends of the channels of the decision.
pub struct Ends {
    pub plan: watch::Receiver<Arc<Plan>>,
    pub health: watch::Receiver<Arc<HealthView>>,
    /// The addresses that must be there, and what became of them.
    pub needed: watch::Sender<Arc<Needed>>,
    pub bound: watch::Receiver<Arc<Bound>>,
    /// When each worker of the proxy last served.
    pub board: Arc<Board>,
    /// What the self-probes found.
    pub paths: watch::Receiver<Arc<Paths>>,
    /// The operator's last command: sent before what follows from it.
    pub command: watch::Receiver<Option<CauseId>>,
    /// What operators drain.
    pub drains: watch::Receiver<Arc<Drains>>,
    /// The traffic of what drains.
    pub flows: watch::Receiver<Arc<Measured>>,
    pub watched: watch::Sender<Arc<Vec<Watched>>>,
    /// What the other POPs say; None without a fleet.
    pub heard: Option<watch::Receiver<Arc<Heard>>>,
    /// What they are told.
    pub stances: watch::Sender<Arc<Stances>>,
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
    alarm: Alarm,
    data_path: DataPath,
    leaving: Leaving,
}

impl Announcer {
    /// Nothing is announced before it runs. `ids` name what nobody else has a name for.
    #[must_use]
    pub fn new(ends: Ends, ids: CauseIds) -> Self {
        let plan = ends.plan.borrow().clone();
        let alarm = Alarm::default();
        let data_path = DataPath { workers: alarm.workers(), paths: Some(ends.paths.borrow().clone()) };
        Self { ends, plan, ledger: Ledger::new(ids), alarm, data_path, leaving: Leaving::No }
    }

    /// Decides until `stop`; then asks neighbors to look elsewhere, withdraws, and returns when the
    /// withdrawal is written. The addresses stay bound for others to take away after that.
    ///
    /// # Errors
    /// [`AnnounceError::Gone`] when a channel's other end has ended.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<(), AnnounceError> {
        self.judge();
        self.need();
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

    async fn decide_until(&mut self, end: impl Future<Output = ()>) -> Result<(), AnnounceError> {
        tokio::pin!(end);
        let mut report = interval(REPORT_EVERY);
        loop {
            let due = self.next_deadline();
            let lease = self.alarm.next_deadline();
            // Each judgement heeds all that is known by then. What comes seldom is asked first, because words of the
            // checks may come faster than they can be judged; and then the neighbors must have their turn as well.
            tokio::select! {
                biased;
                () = &mut end => return Ok(()),
                // Most often every worker has renewed, and there is nothing to judge.
                () = sleep_until(lease.unwrap_or(due).into()), if lease.is_some() => if self.look() {
                    self.judge();
                },
                changed = self.ends.plan.changed() => {
                    changed.map_err(|_| AnnounceError::Gone("configuration"))?;
                    self.plan = self.ends.plan.borrow_and_update().clone();
                    self.judge();
                    self.need();
                }
                changed = self.ends.bound.changed() => {
                    changed.map_err(|_| AnnounceError::Gone("addresses"))?;
                    self.judge();
                }
                // Nobody may have renewed the facts: that alone is a reason to judge anew.
                () = sleep_until(due.into()) => self.judge(),
                changed = self.ends.paths.changed(), if self.data_path.paths.is_some() => {
                    let paths = changed.is_ok().then(|| self.ends.paths.borrow_and_update().clone());
                    let is_news = match (&self.data_path.paths, &paths) {
                        (Some(before), Some(paths)) => before.differs(paths),
                        _ => true,
                    };
                    self.data_path.paths = paths;
                    if is_news {
                        self.judge();
                    }
                }
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
                // That nobody is heard any more shows in the ages of what was heard.
                Ok(()) = heard(&mut self.ends.heard) => self.judge(),
                _ = report.tick() => self.report(),
                changed = self.ends.health.changed() => {
                    changed.map_err(|_| AnnounceError::Gone("health"))?;
                    self.judge();
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// When time alone changes a judgement: the health facts at hand stop being believed, a dwell or a
    /// step of a drain ends.
    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let stale = self.ends.health.borrow().as_of + self.plan.max_age + Duration::from_millis(1);
        let silent = self.data_path.next_deadline(&self.plan, now);
        let due = self.ledger.next_deadline(&self.plan).into_iter().chain(silent).fold(stale, Instant::min);
        // Once judged stale, the next look is in a while; news come by themselves.
        if due > now { due } else { now + LATE }
    }

    /// Looks at the leases of the workers; whether there is anything new to judge by. The clock is asked before the
    /// board is read: whatever was renewed until now counts.
    fn look(&mut self) -> bool {
        if lease::is_needed(&self.plan) {
            let now = Instant::now();
            self.alarm.handle_look(self.ends.board.read(now), self.ends.board.lease(), now);
        } else {
            self.alarm.handle_rest();
        }
        let before = std::mem::replace(&mut self.data_path.workers, self.alarm.workers());
        before != self.data_path.workers
    }

    /// Judges all prefixes and publishes what follows.
    fn judge(&mut self) {
        self.look();
        let view = self.ends.health.borrow_and_update().clone();
        let drains = self.ends.drains.borrow_and_update().clone();
        let bound = self.ends.bound.borrow_and_update().clone();
        let heard = self.ends.heard.as_mut().map(|heard| heard.borrow_and_update().clone());
        let before = self.ledger.wanted().revision();
        let inputs = Inputs {
            plan: &self.plan,
            view: &view,
            bound: &bound,
            drains: &drains,
            data_path: &self.data_path,
            heard: heard.as_ref(),
            leaving: self.leaving,
            command: *self.ends.command.borrow(),
        };
        let changed = self.ledger.judge(inputs, Instant::now());
        if self.ledger.wanted().revision() != before {
            self.ends.wanted.send_replace(self.ledger.wanted().clone());
        }
        if self.ends.stances.borrow().revision != self.ledger.stances().revision {
            self.ends.stances.send_replace(self.ledger.stances().clone());
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

    /// Tells which addresses the plan needs, after it was judged: those of prefixes that left the configuration
    /// may go once their withdrawal is written.
    fn need(&self) {
        let places: BTreeSet<Place> = self.plan.anycast.values().flat_map(places).collect();
        let revision = self.ledger.wanted().revision();
        self.ends.needed.send_if_modified(|old| {
            let changed = old.places != places;
            if changed {
                *old = Arc::new(Needed { places, revision });
            }
            changed
        });
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
        let bound = self.ends.bound.borrow();
        let board = &self.ends.board;
        let status = self.ledger.entries().filter_map(|(prefix, announcement)| {
            let anycast = self.plan.anycast.get(prefix)?;
            Some(PrefixStatus {
                addresses: places(anycast).filter_map(|place| bound.get(&place)).cloned().collect(),
                cause: self.ledger.cause_of(prefix),
                drain: self.ledger.ladder(prefix).map(|ladder| report::drain(ladder, now)),
                damping: report::damping(anycast, announcement, now),
                lease: report::lease(&self.data_path.lease_of(anycast, &self.plan, now), board, now),
                ..report::announcement(*prefix, anycast, announcement, now)
            })
        });
        self.ends.status.send_replace(Arc::new(status.collect()));
    }
}

/// News of the other POPs; never without a fleet.
async fn heard(of: &mut Option<watch::Receiver<Arc<Heard>>>) -> Result<(), watch::error::RecvError> {
    match of {
        Some(heard) => heard.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
