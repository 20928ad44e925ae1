//! What a new plan keeps, adds and removes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::{Changes, Check, CheckId, Due, Entry, HealthPlan, Roster, Service, Standing, Tally, schedule};
use crate::config::services;

impl Roster {
    /// Takes a whole new plan. A backend whose target and question did not change keeps all that is
    /// known of it; all others start unproven, or up if their service is not checked at all.
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
                let settings = settings.of(backend).map_or_else(|| Arc::clone(&settings), Arc::new);
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
        if settings.is_off() {
            return id;
        }
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
        let standings = standings.map(|entry| ((&entry.check.backend).into(), entry.counted));
        service.tally.handle_plan(&config.watermark, standings, now);
        if service.tally.blamed().is_none_or(|id| !self.entries.contains_key(&id)) {
            self.blame_latest(name);
        }
    }
}
