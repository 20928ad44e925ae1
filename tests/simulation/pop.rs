//! A POP in virtual time: the real ledger with a driver, beside the model that is shown the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgeproxy::announce::addresses::Bound;
use edgeproxy::announce::drain::{Flows, Measured, Order};
use edgeproxy::announce::facts::{Leaving, places};
use edgeproxy::announce::lease::{DataPath, Workers};
use edgeproxy::announce::ledger::{Drains, Inputs, Ledger, Plan};
use edgeproxy::health::{Cause, HealthView, Position, ServiceHealth};
use edgeproxy::observe::journal::CauseIds;
use edgeproxy::observe::status::AddressStatus;
use edgeproxy::supervise::lease::paths::{PathHealth, Paths};

use super::event::{Event, Found, Probing};
use super::model::Model;
use super::properties::{self, Seen};
use super::setting::{self, Setting};

/// One POP.
pub struct Pop<'a> {
    setting: &'a Setting,
    now: Instant,
    plan: Plan,
    view: HealthView,
    /// The prober renews its view whenever somebody looks.
    prober_alive: bool,
    bound: Bound,
    workers: Workers,
    probing: Probing,
    paths: BTreeMap<String, PathHealth>,
    drains: Drains,
    leaving: Leaving,
    ids: CauseIds,
    ledger: Ledger,
    model: Model,
    /// What was there after the last look.
    seen: Seen,
    tally: Tally,
}

/// What came about.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often all prefixes were judged.
    pub looks: u64,
    /// How often a prefix came to each reason, by their names.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.looks += other.looks;
        for (name, count) in &other.reasons {
            *self.reasons.entry(name).or_default() += count;
        }
    }
}

impl<'a> Pop<'a> {
    pub fn new(setting: &'a Setting, now: Instant) -> Self {
        let ledger = Ledger::new(CauseIds::new(1, 0));
        Self {
            setting,
            now,
            plan: setting.plan(),
            view: HealthView::empty(now),
            prober_alive: true,
            bound: Bound::new(),
            workers: Workers::Unproven { worker: 0 },
            probing: Probing::Alive,
            paths: BTreeMap::new(),
            drains: BTreeMap::new(),
            leaving: Leaving::No,
            ids: CauseIds::new(1, 1),
            seen: Seen::of(&ledger),
            ledger,
            model: Model::default(),
            tally: Tally::default(),
        }
    }

    /// The first look of all, and the second if the POP shall be running.
    pub fn begin(&mut self) -> Result<(), String> {
        let spoken = Event::Prober { alive: true };
        self.look(Some(&spoken))?;
        if self.setting.running {
            for prefix in &self.setting.prefixes {
                self.bound.extend(places(&self.setting.anycast(prefix)).map(|place| (place, address(true))));
            }
            for service in 0..self.setting.services {
                self.put_service(service, Position::Full, true);
                self.put_path(service, Found::Serving);
            }
            self.workers = Workers::Valid;
            self.look(Some(&spoken))?;
        }
        Ok(())
    }

    /// What came about so far.
    pub fn into_tally(self) -> Tally {
        self.tally
    }

    pub fn handle(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Wait { length, late } => self.wait(*length, *late),
            Event::ToDeadline => match self.next_deadline() {
                Some(deadline) => self.wake_at(deadline),
                None => Ok(()),
            },
            _ => {
                self.put(event);
                self.look(Some(event))
            }
        }
    }

    fn put(&mut self, event: &Event) {
        let now = self.now;
        let prefixes = &self.setting.prefixes;
        let configured = |which: &u8| &prefixes[usize::from(*which) % prefixes.len()];
        let prefix_of = |which: &u8| configured(which).prefix;
        match event {
            Event::Wait { .. } | Event::ToDeadline => {}
            Event::Service { service, position, proven } => self.put_service(*service, *position, *proven),
            Event::Unheard { service } => {
                self.view.services.remove(self.name(*service));
            }
            Event::Prober { alive } => self.prober_alive = *alive,
            Event::Address { prefix, bound } => {
                for place in places(&self.setting.anycast(configured(prefix))) {
                    match bound {
                        None => self.bound.remove(&place),
                        Some(bound) => self.bound.insert(place, address(*bound)),
                    };
                }
            }
            Event::Intent { prefix, intent } => {
                if let Some(anycast) = self.plan.anycast.get_mut(&prefix_of(prefix)) {
                    anycast.state = *intent;
                }
            }
            Event::Listed { prefix, listed } => {
                let prefix = configured(prefix);
                if *listed {
                    let anycast = || self.setting.anycast(prefix);
                    self.plan.anycast.entry(prefix.prefix).or_insert_with(anycast);
                } else {
                    self.plan.anycast.remove(&prefix.prefix);
                }
            }
            Event::DependsOn { prefix, services } => {
                if let Some(anycast) = self.plan.anycast.get_mut(&prefix_of(prefix)) {
                    anycast.services = self.setting.names(*services);
                }
            }
            Event::Damping { prefix, choice } => {
                if let Some(anycast) = self.plan.anycast.get_mut(&prefix_of(prefix)) {
                    anycast.damping = setting::damping(*choice);
                }
            }
            Event::Attributes { prefix, med } => {
                if let Some(anycast) = self.plan.anycast.get_mut(&prefix_of(prefix)) {
                    anycast.attributes.med = Some(*med);
                }
            }
            Event::MaxAge(max_age) => self.plan.max_age = *max_age,
            Event::Drain { prefix, deadline, resumed } => {
                let order = Order {
                    reason: "fan".to_owned(),
                    begun: now,
                    deadline: now + *deadline,
                    resumed: *resumed,
                    force: false,
                    cause: self.ids.next_id(),
                };
                self.drains.insert(prefix_of(prefix), order);
            }
            Event::Undrain { prefix } => {
                self.drains.remove(&prefix_of(prefix));
            }
            Event::Flows { prefix, open, new_per_second, age } => {
                let at = now.checked_sub(*age).unwrap_or(now);
                let flows = Flows { open: *open, new_per_second: *new_per_second, at };
                self.ledger.handle_flows(&Measured::from([(prefix_of(prefix), flows)]));
                self.model.measure(&prefix_of(prefix), flows);
            }
            Event::Workers(workers) => self.workers = *workers,
            Event::Path { service, found } => self.put_path(*service, *found),
            Event::Probing(probing) => self.probing = *probing,
            Event::Listens { service, prefixes, probed } => {
                let name = self.name(*service).to_owned();
                let listens = self.setting.listens(*prefixes, *probed);
                if listens.addresses.is_empty() {
                    self.plan.listens.remove(&name);
                } else {
                    self.plan.listens.insert(name, listens);
                }
            }
            // Whoever leaves does not come back.
            Event::Leave(leaving) => {
                if self.leaving != Leaving::Gone {
                    self.leaving = *leaving;
                }
            }
        }
    }

    fn put_service(&mut self, service: u8, position: Position, proven: bool) {
        let name = self.name(service);
        let cause = (position == Position::Low).then(|| Cause {
            service: name.to_owned(),
            backend: "b-1".to_owned(),
            target: ([10, 0, 0, 5], 80).into(),
            error: "connection refused".to_owned(),
            failed_at: self.now,
            proven: true,
        });
        let was_serving = self.view.services.get(name).is_some_and(|before| before.serving);
        let health = ServiceHealth {
            position,
            serving: match position {
                Position::Low => false,
                Position::Between => was_serving,
                Position::BrownOut | Position::Full => true,
            },
            healthy_weight: weight_at(position),
            total_weight: 10,
            // What is over low is proven by that.
            proven: proven || position != Position::Low,
            cause,
            since: self.now,
            changed_by: Some(self.ids.next_id()),
        };
        self.view.services.insert(name.to_owned(), health);
    }

    fn put_path(&mut self, service: u8, found: Found) {
        let health = match found {
            Found::Nothing => {
                self.paths.remove(self.name(service));
                return;
            }
            Found::Unproven => PathHealth::Unproven,
            Found::Serving => PathHealth::Serving { last: self.now },
            Found::Failing => PathHealth::Failing {
                since: self.now,
                failures: 3,
                error: "no answer within 500ms".to_owned(),
                listener: "198.51.100.1:443".to_owned(),
                last_ok: None,
            },
        };
        self.paths.insert(self.name(service).to_owned(), health);
    }

    fn data_path(&self) -> DataPath {
        let paths = Paths { probing: self.probing != Probing::Off, by_service: self.paths.clone() };
        DataPath { workers: self.workers, paths: (self.probing != Probing::Gone).then(|| Arc::new(paths)) }
    }

    fn name(&self, service: u8) -> &'static str {
        setting::SERVICES[usize::from(service % self.setting.services)]
    }

    fn wait(&mut self, length: Duration, late: bool) -> Result<(), String> {
        let until = self.now + length;
        while !late && let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= until) {
            self.wake_at(deadline)?;
        }
        self.now = until;
        self.look(None)
    }

    /// Looks just before the deadline too: nothing may have happened by then.
    fn wake_at(&mut self, deadline: Instant) -> Result<(), String> {
        let before = deadline - Duration::from_nanos(1);
        if before > self.now {
            self.now = before;
            self.look(None)?;
        }
        self.now = deadline;
        self.look(None)
    }

    /// When the driver wakes by itself.
    fn next_deadline(&self) -> Option<Instant> {
        let stale = self.view.as_of + self.plan.max_age + Duration::from_nanos(1);
        let stale = (!self.prober_alive && stale > self.now).then_some(stale);
        // While somebody probes, what serves is never silent.
        let silent = self.data_path().next_deadline(&self.plan, self.now);
        let silent = silent.filter(|_| self.probing == Probing::Hung);
        self.ledger.next_deadline(&self.plan).into_iter().chain(stale).chain(silent).min()
    }

    /// Judges all prefixes, and shows the model the same; compares. Without an event only time has passed.
    fn look(&mut self, event: Option<&Event>) -> Result<(), String> {
        self.tally.looks += 1;
        if self.prober_alive {
            self.view.as_of = self.now;
        }
        if self.probing == Probing::Alive {
            for health in self.paths.values_mut() {
                if let PathHealth::Serving { last } = health {
                    *last = self.now;
                }
            }
        }
        let data_path = self.data_path();
        let inputs = Inputs {
            plan: &self.plan,
            view: &self.view,
            bound: &self.bound,
            drains: &self.drains,
            data_path: &data_path,
            heard: None,
            leaving: self.leaving,
            command: None,
        };
        let changed = self.ledger.judge(inputs, self.now);
        self.model.look(&inputs, self.now);
        let mut seen = Seen::of(&self.ledger);
        let look = properties::Look {
            event,
            now: self.now,
            inputs: &inputs,
            ledger: &self.ledger,
            changed: &changed,
        };
        look.check(&self.model, &self.seen, &seen)?;
        if event.is_some() || !changed.is_empty() {
            let again = self.ledger.judge(inputs, self.now);
            if !again.is_empty() || self.ledger.wanted().revision() != seen.revision() {
                return Err(format!("judged again, the answer is another one: {again:?}"));
            }
        }
        for verdict in changed.iter().filter(|verdict| verdict.news) {
            *self.tally.reasons.entry(verdict.announcement.reason.name()).or_default() += 1;
        }
        seen.promise(self.next_deadline());
        if seen.promised().is_some_and(|promised| promised <= self.now) {
            return Err("the next deadline has passed already: the driver would never sleep".to_owned());
        }
        seen.remember(&self.seen, &inputs, self.now);
        self.seen = seen;
        Ok(())
    }
}

/// A healthy weight in the middle of a position of the [`WATERMARK`](setting::WATERMARK), of ten.
pub fn weight_at(position: Position) -> u32 {
    match position {
        Position::Low => 0,
        Position::Between => 3,
        Position::BrownOut => 4,
        Position::Full => 10,
    }
}

/// An address that is there, or is not.
fn address(is_there: bool) -> AddressStatus {
    AddressStatus {
        address: String::new(),
        device: "lo".to_owned(),
        state: if is_there { "ours" } else { "missing" }.to_owned(),
        error: (!is_there).then(|| "no such device".to_owned()),
    }
}
