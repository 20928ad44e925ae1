//! All checks of the plan: which probe starts next, what its outcome means, what is known now.
//!
//! The heart of the room, and pure: told the time, it hands out probes and held connections to make
//! (`poll_*`), takes what became of them (`handle_*`), and says when it wants to be asked again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::Check;
use super::pace::Changes;
use super::schedule::{self, Dice, Tempo};
use super::tally::{Moved, Standing, Tally};
use super::verdict::{Failure, Outcome, Verdict};
use super::watermark::Position;
use super::{HealthPlan, HealthView};
use crate::config::health::Health;
use crate::config::services;
use crate::observe::status::{BackendStatus, ServiceStatus};

/// After this machine ran out of descriptors, no held connection is opened for so long.
const HOLD_PAUSE: Duration = Duration::from_secs(60);

/// A backend's check under one configuration of it. Never used again once the question changed, so
/// that a late answer to an old question finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckId(u64);

/// One probe. Each is handed out once and its outcome counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(u64);

/// A probe to make.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    pub check: CheckId,
    pub target: SocketAddr,
    /// What to ask, from where, and how long to wait.
    pub settings: Arc<services::Check>,
}

/// A held connection to open.
#[derive(Debug, Clone)]
pub struct Hold {
    pub check: CheckId,
    pub target: SocketAddr,
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
    /// INVARIANT: holds exactly the checks of `entries` that have no probe in flight.
    due: BTreeSet<Due>,
    /// Probes handed out and not come back, of removed checks too: at most `max_concurrent`.
    flying: BTreeMap<JobId, CheckId>,
    holds: BTreeSet<(Instant, CheckId)>,
    /// Held connections being opened: at most `max_concurrent`.
    opening: BTreeSet<CheckId>,
    open: BTreeSet<CheckId>,
    releases: VecDeque<CheckId>,
    holds_paused_until: Option<Instant>,
    changes: Changes,
}

impl Roster {
    /// Without any check. `seed` feeds the jitter.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            limits: Health::default(),
            dice: Dice::new(seed),
            next_id: 0,
            entries: BTreeMap::new(),
            services: BTreeMap::new(),
            due: BTreeSet::new(),
            flying: BTreeMap::new(),
            holds: BTreeSet::new(),
            opening: BTreeSet::new(),
            open: BTreeSet::new(),
            releases: VecDeque::new(),
            holds_paused_until: None,
            changes: Changes::default(),
        }
    }

    /// Takes a whole new plan. A backend whose target and question did not change keeps all that is
    /// known of it; all others start unproven.
    pub fn apply_plan(&mut self, plan: &HealthPlan, now: Instant) {
        self.limits = plan.limits.clone();
        let backends = plan.services.values().map(|service| service.backends.len()).sum();
        let mut before = std::mem::take(&mut self.services);
        for (name, service) in &plan.services {
            let name: Arc<str> = name.as_str().into();
            let settings = Arc::new(service.check.clone());
            let (mut known, tally) = match before.remove(&name) {
                Some(before) => (self.by_backend(&before.checks), before.tally),
                None => (BTreeMap::new(), Tally::new(now)),
            };
            let mut checks = Vec::with_capacity(service.backends.len());
            for backend in &service.backends {
                let id = match known.remove(&backend.id) {
                    Some(id) if self.keep(id, backend, &settings, now) => id,
                    Some(id) => {
                        self.remove(id);
                        self.add(&name, backend, &settings, backends, now)
                    }
                    None => self.add(&name, backend, &settings, backends, now),
                };
                checks.push(id);
            }
            for id in known.into_values() {
                self.remove(id);
            }
            self.services.insert(Arc::clone(&name), Service { tally, checks });
            self.recount(&name, service, now);
        }
        for service in before.into_values() {
            for id in service.checks {
                self.remove(id);
            }
        }
        self.changes = Changes { view: true, status: true };
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
        self.flying.insert(id, due.check);
        let check = &entry.check;
        Some(Job { id, check: due.check, target: check.target, settings: Arc::clone(&check.settings) })
    }

    /// The next held connection to open now.
    pub fn poll_hold(&mut self, now: Instant) -> Option<Hold> {
        while self.opening.len() < self.limits.max_concurrent {
            let (at, id) = *self.holds.first()?;
            if at > now {
                return None;
            }
            self.holds.pop_first();
            let entry = self.entries.get_mut(&id)?;
            entry.opens_at = None;
            // It waits for the next success otherwise.
            if entry.check.verdict() == Verdict::Up && entry.check.held.opens_at().is_some() {
                entry.check.held.handle_opening();
                self.opening.insert(id);
                let check = &entry.check;
                return Some(Hold { check: id, target: check.target, settings: Arc::clone(&check.settings) });
            }
        }
        None
    }

    /// The next held connection to close, whether it is open or still being opened. Nothing that the
    /// closed one does later may come back as an event.
    pub fn poll_release(&mut self) -> Option<CheckId> {
        self.releases.pop_front()
    }

    /// Takes what became of a probe. Ignored if the check is gone or asks another question by now.
    pub fn handle_outcome(&mut self, job: JobId, outcome: &Outcome, now: Instant) {
        let Some(id) = self.flying.remove(&job) else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let started = entry.check.started().unwrap_or(now);
        let tempo = entry.check.handle_outcome(outcome, now);
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

    /// A held connection is open.
    pub fn handle_held_opened(&mut self, id: CheckId, now: Instant) {
        self.opening.remove(&id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.check.held.handle_opened(now);
            self.open.insert(id);
        }
    }

    /// A held connection ended: a probe starts at once, before all others.
    pub fn handle_held_ended(&mut self, id: CheckId, now: Instant) {
        self.open.remove(&id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.check.held.handle_ended(now);
        if entry.check.handle_held_ended() {
            self.enqueue(id, Due { unhurried: false, at: now, check: id });
        }
    }

    /// A held connection could not be opened. A refusal or a cut-off is news of the backend.
    pub fn handle_hold_failed(&mut self, id: CheckId, failure: &Failure, now: Instant) {
        self.opening.remove(&id);
        if failure.is_proven() || failure.is_cut_off() {
            return self.handle_held_ended(id, now);
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.check.held.handle_ended(now);
        }
        if *failure == Failure::Local(Failure::OUT_OF_DESCRIPTORS) {
            self.make_room(now);
        }
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

    /// When `poll_probe` or `poll_hold` will have something without another event. May be in the past.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let has_room = self.flying.len() < self.limits.max_concurrent;
        let probe = self.due.first().filter(|_| has_room).map(|due| due.at);
        let can_open = self.opening.len() < self.limits.max_concurrent;
        let hold = self.holds.first().filter(|_| can_open).map(|&(at, _)| at);
        probe.into_iter().chain(hold).min()
    }

    /// What changed since this was last asked.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
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

    fn by_backend(&self, checks: &[CheckId]) -> BTreeMap<String, CheckId> {
        let id_of = |id: &CheckId| self.entries.get(id).map(|entry| (entry.check.backend.id.clone(), *id));
        checks.iter().filter_map(id_of).collect()
    }

    /// Keeps a check under new settings, if these still ask the same question.
    fn keep(
        &mut self,
        id: CheckId,
        backend: &services::Backend,
        settings: &Arc<services::Check>,
        now: Instant,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if !entry.check.asks_the_same(backend, settings) {
            return false;
        }
        let release = entry.check.held.handle_wanted(settings.held_connection);
        let rhythm_changed = entry.check.handle_settings(backend.clone(), Arc::clone(settings), now);
        // A longer wait under the old interval is cut to at most one new interval from the last start.
        if let (true, Some(due)) = (rhythm_changed, entry.due) {
            let latest = entry.check.started().map_or(due.at, |started| started + settings.interval);
            let at = due.at.min(latest.max(now));
            self.enqueue(id, Due { at, ..due });
        }
        if release {
            self.release(id);
        }
        true
    }

    fn add(
        &mut self,
        service: &Arc<str>,
        backend: &services::Backend,
        settings: &Arc<services::Check>,
        backends: usize,
        now: Instant,
    ) -> CheckId {
        self.next_id += 1;
        let id = CheckId(self.next_id);
        let check = Check::new(Arc::clone(service), backend.clone(), Arc::clone(settings), now);
        self.entries.insert(id, Entry { check, counted: Standing::default(), due: None, opens_at: None });
        let at = schedule::first_start(now, service, &backend.id, settings.interval, backends);
        self.enqueue(id, Due { unhurried: true, at, check: id });
        id
    }

    fn remove(&mut self, id: CheckId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(due) = entry.due {
            self.due.remove(&due);
        }
        if let Some(at) = entry.opens_at {
            self.holds.remove(&(at, id));
        }
        if entry.check.held.is_engaged() {
            self.release(id);
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

    /// After a success: the held connection is opened as soon as its back-off allows.
    fn want_hold(&mut self, id: CheckId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.opens_at.is_some() || entry.check.verdict() != Verdict::Up {
            return;
        }
        let Some(opens_at) = entry.check.held.opens_at() else { return };
        let at = opens_at.max(now).max(self.holds_paused_until.unwrap_or(now));
        entry.opens_at = Some(at);
        self.holds.insert((at, id));
    }

    /// After silence: a server that serves one connection at a time would be deaf because of ours.
    fn suspect_hold(&mut self, id: CheckId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.check.held.is_open() {
            entry.check.held.handle_deaf(now);
            self.release(id);
        }
    }

    /// After running out of descriptors: held connections are a help, probes are the duty.
    fn make_room(&mut self, now: Instant) {
        let until = now + HOLD_PAUSE;
        self.holds_paused_until = Some(until);
        let Some(&id) = self.open.last() else { return };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.check.held.handle_evicted(until);
        }
        self.release(id);
    }

    fn release(&mut self, id: CheckId) {
        self.open.remove(&id);
        self.opening.remove(&id);
        self.releases.push_back(id);
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
            moved = tally.handle_standing(entry.check.backend.weight, before, after, now);
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

    /// Counts a service anew after its configuration changed.
    fn recount(&mut self, name: &Arc<str>, config: &services::Service, now: Instant) {
        let Some(service) = self.services.get_mut(name) else { return };
        let entries = &mut self.entries;
        for id in &service.checks {
            if let Some(entry) = entries.get_mut(id) {
                entry.counted = entry.check.standing();
            }
        }
        let standings = service.checks.iter().filter_map(|id| entries.get(id));
        let standings = standings.map(|entry| (entry.check.backend.weight, entry.counted));
        service.tally.handle_plan(&config.watermark, standings, now);
        if service.tally.blamed().is_none_or(|id| !self.entries.contains_key(&id)) {
            self.blame_latest(name);
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
