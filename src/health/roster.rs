//! All checks of the plan: which probe starts next, what its outcome means, what is known now.
//!
//! The heart of the room, and pure: told the time, it hands out probes and held connections to make
//! (`poll_*`), takes what became of them (`handle_*`), and says when it wants to be asked again.

mod holds;
mod plan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use holds::Hold;

use super::check::Check;
pub use super::check::CheckId;
use super::pace::Changes;
use super::schedule::{self, Dice, Tempo};
use super::tally::{Moved, Tally};
use super::verdict::{Failure, Outcome, Standing, Verdict};
use super::watermark::Position;
use super::{HealthPlan, HealthView, owner};
use crate::catalog::remote::Said;
use crate::catalog::view::Verdicts;
use crate::config::health::Health;
use crate::config::services;
use crate::observe::journal::{CauseId, CauseIds};
use crate::observe::status::{BackendStatus, ServiceStatus};

/// One probe. Each is handed out once and its outcome counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(u64);

/// A probe to make.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    pub check: CheckId,
    pub target: SocketAddr,
    /// What to ask, and from where. The deadline is kept here, see [`Roster::poll_overdue`].
    pub settings: Arc<services::Check>,
}

/// The order of due probes: first those wanted at once, then by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    unhurried: bool,
    at: Instant,
    check: CheckId,
}

#[derive(Debug)]
struct Entry {
    check: Check,
    /// As counted in the service's tally.
    counted: Standing,
    /// Its place in the queue; None while a probe is in flight.
    due: Option<Due>,
    /// Its place in the queue of held connections to open.
    opens_at: Option<Instant>,
}

/// A probe that was handed out.
#[derive(Debug)]
struct Flight {
    check: CheckId,
    deadline: Instant,
    /// The deadline as it was configured when it started.
    within: Duration,
}

#[derive(Debug)]
struct Service {
    tally: Tally,
    /// In the order of the configuration.
    checks: Vec<CheckId>,
}

/// The state of the prober.
#[derive(Debug)]
pub struct Roster {
    limits: Health,
    dice: Dice,
    next_id: u64,
    entries: BTreeMap<CheckId, Entry>,
    services: BTreeMap<Arc<str>, Service>,
    /// INVARIANT: holds exactly the checks of `entries` that are probed and have no probe in flight.
    due: BTreeSet<Due>,
    /// Probes handed out and not come back, of removed checks too: at most `max_concurrent`.
    flying: BTreeMap<JobId, Flight>,
    /// INVARIANT: holds exactly the deadlines of `flying`, so that no slot is ever lost.
    deadlines: BTreeSet<(Instant, JobId)>,
    holds: BTreeSet<(Instant, CheckId)>,
    /// Held connections being opened: at most `max_concurrent`.
    opening: BTreeSet<CheckId>,
    open: BTreeSet<CheckId>,
    releases: VecDeque<CheckId>,
    holds_paused_until: Option<Instant>,
    changes: Changes,
    ids: CauseIds,
    turned: Vec<Turned>,
}

/// A backend's verdict changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    pub id: CauseId,
    pub service: Arc<str>,
    pub backend: String,
    pub target: SocketAddr,
    pub verdict: Verdict,
    /// What failed, if it did not come up.
    pub error: Option<String>,
}

impl Roster {
    /// Without any check. `seed` feeds the jitter, `ids` name the changes of verdicts.
    #[must_use]
    pub fn new(seed: u64, ids: CauseIds) -> Self {
        Self {
            limits: Health::default(),
            dice: Dice::new(seed),
            next_id: 0,
            entries: BTreeMap::new(),
            services: BTreeMap::new(),
            due: BTreeSet::new(),
            flying: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            holds: BTreeSet::new(),
            opening: BTreeSet::new(),
            open: BTreeSet::new(),
            releases: VecDeque::new(),
            holds_paused_until: None,
            changes: Changes::default(),
            ids,
            turned: Vec::new(),
        }
    }

    /// The next probe to make now, if there is one and room for it.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Job> {
        if self.flying.len() >= self.limits.max_concurrent {
            return None;
        }
        let due = *self.due.first()?;
        if due.at > now {
            return None;
        }
        self.due.remove(&due);
        let entry = self.entries.get_mut(&due.check)?;
        entry.due = None;
        entry.check.handle_start(now);
        self.next_id += 1;
        let id = JobId(self.next_id);
        let check = &entry.check;
        let within = check.settings.timeout;
        self.deadlines.insert((now + within, id));
        self.flying.insert(id, Flight { check: due.check, deadline: now + within, within });
        Some(Job { id, check: due.check, target: check.target, settings: Arc::clone(&check.settings) })
    }

    /// The next probe whose deadline passed: it counts as unanswered from here on, and the caller drops it.
    /// To be asked only when no outcome is waiting to be handled, or answers that came in time would be
    /// lost to a late caller.
    pub fn poll_overdue(&mut self, now: Instant) -> Option<JobId> {
        let &(_, job) = self.deadlines.first().filter(|&&(deadline, _)| deadline <= now)?;
        let within = self.flying.get(&job)?.within;
        self.handle_outcome(job, &Outcome::Failure(Failure::NoAnswer { within }), now);
        Some(job)
    }

    /// Takes what became of a probe. Ignored if the check is gone or asks another question by now.
    pub fn handle_outcome(&mut self, job: JobId, outcome: &Outcome, now: Instant) {
        let Some(flight) = self.flying.remove(&job) else { return };
        self.deadlines.remove(&(flight.deadline, job));
        let id = flight.check;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let started = entry.check.started().unwrap_or(now);
        let was_up = entry.check.verdict() == Verdict::Up;
        let tempo = entry.check.handle_outcome(outcome, now);
        let refused = matches!(outcome, Outcome::Failure(failure) if failure.is_proven());
        if was_up && refused && entry.check.verdict() == Verdict::Down {
            entry.check.held.handle_backend_died(now);
        }
        let at = schedule::next_start(started, now, &entry.check.settings, tempo, &mut self.dice);
        self.enqueue(id, Due { unhurried: tempo != Tempo::AtOnce, at, check: id });
        match outcome {
            Outcome::Success { .. } => self.want_hold(id, now),
            Outcome::Failure(Failure::NoAnswer { .. }) => self.suspect_hold(id, now),
            Outcome::Failure(Failure::Local(what)) if *what == Failure::OUT_OF_DESCRIPTORS => {
                self.make_room(now);
            }
            Outcome::Failure(_) => {}
        }
        self.settle(id, now);
    }

    /// Looks for verdicts that are too old to be believed. To be called about every quarter of `max_age`.
    pub fn handle_sweep(&mut self, now: Instant) {
        let max_age = self.limits.max_age;
        let starved: Vec<CheckId> = self
            .entries
            .iter_mut()
            .filter_map(|(&id, entry)| entry.check.handle_sweep(max_age, now).then_some(id))
            .collect();
        for id in starved {
            self.settle(id, now);
        }
    }

    /// Takes what is said of backends at other POPs. Those of which something new is said are probed at once.
    pub fn handle_said(&mut self, said: &Said, now: Instant) {
        let stale = said.as_of.is_none_or(|at| now.saturating_duration_since(at) > owner::STALE);
        let mut heard = Vec::new();
        for (id, entry) in &mut self.entries {
            let check = &mut entry.check;
            if check.backend.pop.is_none() {
                continue;
            }
            let key = (Arc::clone(&check.service), Arc::from(check.backend.id.as_str()));
            if check.handle_word(said.words.get(&key), stale, now) {
                heard.push(*id);
            }
        }
        for id in heard {
            self.settle(id, now);
            if self.entries.get(&id).is_some_and(|entry| entry.due.is_some()) {
                self.enqueue(id, Due { unhurried: false, at: now, check: id });
            }
        }
    }

    /// When one of the `poll_*` will have something without another event. May be in the past.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let has_room = self.flying.len() < self.limits.max_concurrent;
        let probe = self.due.first().filter(|_| has_room).map(|due| due.at);
        let can_open = self.opening.len() < self.limits.max_concurrent;
        let hold = self.holds.first().filter(|_| can_open).map(|&(at, _)| at);
        let overdue = self.deadlines.first().map(|&(at, _)| at);
        probe.into_iter().chain(hold).chain(overdue).min()
    }

    /// What changed since this was last asked.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Verdicts that changed since this was last asked, in their order; at most one for each backend and
    /// outcome.
    pub fn take_turned(&mut self) -> Vec<Turned> {
        std::mem::take(&mut self.turned)
    }

    /// How many backends the plan has.
    #[must_use]
    pub fn backends(&self) -> usize {
        self.entries.len()
    }

    /// All services as the decision sees them.
    #[must_use]
    pub fn view(&self, now: Instant) -> HealthView {
        let services = self.services.iter().map(|(name, service)| (name.to_string(), service.tally.health()));
        HealthView { as_of: now, services: services.collect() }
    }

    /// All services as people see them, by name.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<ServiceStatus> {
        self.services.iter().map(|(name, service)| self.service_status(name, service, now)).collect()
    }

    /// What is known of every backend, for those who choose between them.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        let known = |id: &CheckId| {
            let check = &self.entries.get(id)?.check;
            Some((Arc::from(check.backend.id.as_str()), check.known()))
        };
        let of = |service: &Service| service.checks.iter().filter_map(known).collect();
        self.services.iter().map(|(name, service)| (Arc::clone(name), of(service))).collect()
    }

    fn service_status(&self, name: &str, service: &Service, now: Instant) -> ServiceStatus {
        let health = service.tally.health();
        let levels = service.tally.levels();
        let backends: Vec<BackendStatus> = service
            .checks
            .iter()
            .filter_map(|id| self.entries.get(id))
            .map(|entry| entry.check.status(now))
            .collect();
        ServiceStatus {
            service: name.to_owned(),
            state: service.tally.word().to_owned(),
            since_ms: now.saturating_duration_since(health.since).as_millis() as u64,
            healthy_weight: health.healthy_weight,
            total_weight: health.total_weight,
            low: levels.low,
            high: levels.high,
            degrade: levels.degrade,
            backends,
        }
    }

    /// Puts a check into the queue of probes, in place of where it was.
    fn enqueue(&mut self, id: CheckId, due: Due) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(old) = entry.due.replace(due) {
            self.due.remove(&old);
        }
        self.due.insert(due);
    }

    /// Brings a backend's standing into its service, and says whom to blame.
    fn settle(&mut self, id: CheckId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some(service) = self.services.get_mut(&entry.check.service) else { return };
        let tally = &mut service.tally;
        let (before, after) = (entry.counted, entry.check.standing());
        let mut moved = Moved::No;
        if before != after {
            entry.counted = after;
            let id = self.ids.next_id();
            moved = tally.handle_standing((&entry.check.backend).into(), before, after, id, now);
            let check = &entry.check;
            self.turned.push(Turned {
                id,
                service: Arc::clone(&check.service),
                backend: check.backend.id.clone(),
                target: check.target,
                verdict: check.verdict(),
                error: check.cause().map(|cause| cause.error),
            });
            self.changes = Changes { view: true, status: true };
        }
        let is_blamed = tally.blamed() == Some(id);
        match entry.check.fell_at() {
            // The one that took the service down is to blame, until it is up again.
            Some(_)
                if tally.position() != Position::Full
                    && (moved == Moved::Worse || is_blamed || tally.blamed().is_none()) =>
            {
                let cause = entry.check.cause();
                if let Some(cause) = cause.filter(|cause| tally.health().cause.as_ref() != Some(cause)) {
                    tally.blame(id, cause);
                    self.changes.view = true;
                }
            }
            None if is_blamed => {
                let name = Arc::clone(&entry.check.service);
                self.blame_latest(&name);
            }
            _ => {}
        }
    }

    /// Blames the backend that fell last, if any is down.
    fn blame_latest(&mut self, name: &Arc<str>) {
        let Some(service) = self.services.get_mut(name) else { return };
        let fallen = service.checks.iter().filter_map(|&id| {
            let entry = self.entries.get(&id)?;
            Some((entry.check.fell_at()?, id, entry))
        });
        let latest = fallen.max_by_key(|&(at, id, _)| (at, id));
        service.tally.forgive();
        if let Some((_, id, entry)) = latest
            && let Some(cause) = entry.check.cause()
        {
            service.tally.blame(id, cause);
        }
        self.changes.view = true;
    }
}

#[cfg(test)]
mod tests;
