//! The configuration in force, and how a new one is handed out whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use super::fleetwide::Fleetwide;
use crate::admin::Told;
use crate::announce::ledger::Plan;
use crate::backhaul::tunnel::{PrivateKey, PublicKey};
use crate::catalog::fleet::{self, Fleet, Pop};
use crate::catalog::geo::Geo;
use crate::catalog::traffic::FlowBook;
use crate::catalog::view::Sources;
use crate::config::backhaul::{Backhaul, key_text};
use crate::config::bgp::Bgp;
use crate::config::diff::diff;
use crate::config::load::Source;
use crate::config::observe::LogLevel;
use crate::config::replication::Replication;
use crate::config::{self, Config, key_file, load};
use crate::health::HealthPlan;
use crate::observe::log::Logs;
use crate::proxy::{self, plan::Planner};

/// The watches that a configuration is handed out through.
#[derive(Debug)]
pub struct Handouts {
    pub bgp: watch::Sender<Arc<Bgp>>,
    pub policy: watch::Sender<Arc<Plan>>,
    pub health: watch::Sender<Arc<HealthPlan>>,
    pub catalog: watch::Sender<Arc<Sources>>,
    pub proxy: watch::Sender<Arc<proxy::plan::Plan>>,
    pub planner: Planner,
    pub flows: watch::Sender<Arc<FlowBook>>,
    /// None: this process was started without a backhaul.
    pub tunnels: Option<watch::Sender<Arc<Backhaul>>>,
    /// None: it was started without a fleet.
    pub replication: Option<watch::Sender<Arc<Replication>>>,
    pub pop: watch::Sender<Arc<Pop>>,
    /// What the other POPs say; empty without a fleet.
    pub fleet: watch::Receiver<Arc<Fleet>>,
}

/// The configuration in force and the text it came from.
#[derive(Debug)]
pub struct InForce {
    config: Arc<Config>,
    source: Source,
    handouts: Handouts,
    logs: Logs,
    /// POPs that are no peers of the backhaul, as was said last.
    left_out: BTreeMap<Arc<str>, String>,
}

impl InForce {
    /// `config` has been handed out already.
    #[must_use]
    pub fn new(config: Arc<Config>, source: Source, handouts: Handouts, logs: Logs) -> Self {
        Self { config, source, handouts, logs, left_out: BTreeMap::new() }
    }

    /// What it says.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// As it came.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Hands out what changed. Returns what was in force before.
    pub fn switch(&mut self, new: Arc<Config>, source: Source) -> (Arc<Config>, Source) {
        self.logs.set_level(level(new.observe.log.level));
        // Checks first, so that a new prefix finds its services known; then what depends on them.
        let geo = new.proxy.geo.as_deref().and_then(geo);
        self.hand_out_fleetwide(&new, geo);
        let proxy = self.handouts.planner.plan(&new);
        self.handouts.proxy.send_replace(Arc::new(proxy));
        self.handouts.flows.send_replace(Arc::new(self.handouts.planner.flows().clone()));
        // What needs a restart stays as it was.
        if let (Some(handout), Some(replication)) = (&self.handouts.replication, &new.replication) {
            hand_out(handout, Replication::clone(replication));
        }
        hand_out(&self.handouts.pop, pop(&new));
        hand_out(&self.handouts.policy, Plan::of(&new));
        hand_out(&self.handouts.bgp, new.bgp.clone());
        (std::mem::replace(&mut self.config, new), std::mem::replace(&mut self.source, source))
    }

    /// What the fleet says may have changed: what depends on it follows.
    pub fn handle_fleet(&mut self) {
        if self.handouts.fleet.has_changed().unwrap_or(false) {
            let geo = self.handouts.catalog.borrow().geo.clone();
            self.hand_out_fleetwide(&Arc::clone(&self.config), geo);
        }
    }

    /// Checks, choices and tunnels: of the configuration, with what the fleet adds.
    fn hand_out_fleetwide(&mut self, config: &Config, geo: Option<Arc<Geo>>) {
        let fleet = Arc::clone(&self.handouts.fleet.borrow_and_update());
        let Fleetwide { backhaul, services, unreached, left_out } = Fleetwide::of(config, &fleet);
        for (pop, why) in left_out.iter().filter(|(pop, why)| self.left_out.get(*pop) != Some(why)) {
            warn!(%pop, "it is no peer of the backhaul: {why}");
        }
        self.left_out = left_out;
        let plan = HealthPlan { limits: config.health.clone(), services: services.clone() };
        hand_out(&self.handouts.health, plan);
        hand_out(
            &self.handouts.catalog,
            Sources { region: config.pop.region.clone(), services, unreached, geo },
        );
        if let (Some(tunnels), Some(backhaul)) = (&self.handouts.tunnels, backhaul) {
            hand_out(tunnels, backhaul);
        }
    }

    #[cfg(test)]
    pub(super) fn handed_out_to_catalog(&self) -> tokio::sync::watch::Receiver<Arc<Sources>> {
        self.handouts.catalog.subscribe()
    }

    /// What a text would change, without changing it.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn compare(&self, text: &str, base: &Path) -> Result<Told, String> {
        let new = load::parse(text, base).map_err(|problems| problems.to_string())?;
        self.changes(&new)
    }

    /// What another configuration would change, without changing it.
    ///
    /// # Errors
    /// When the changes have no JSON form.
    pub fn changes(&self, new: &Config) -> Result<Told, String> {
        let changes = diff(&self.config, new);
        let document = serde_json::to_value(&changes).map_err(|error| error.to_string())?;
        Ok(Told { text: changes.to_string(), document })
    }
}

/// This POP as the others are to know it.
#[must_use]
pub fn pop(config: &Config) -> Pop {
    Pop {
        region: config.pop.region.clone(),
        location: config.pop.location,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: config.generation,
        replication: config.replication.as_ref().and_then(|replication| replication.advertise),
        backhaul: config.backhaul.as_deref().and_then(tunnels),
    }
}

/// How others build a tunnel to this POP. None, if there is no key: the backhaul says why.
fn tunnels(backhaul: &Backhaul) -> Option<fleet::Backhaul> {
    let public = |path: &Path| key_file::load_or_make(path).ok().map(|key| PrivateKey::new(key).public());
    let text = |key: PublicKey| key_text(&key.0);
    Some(fleet::Backhaul {
        fleet: backhaul.fleet.to_string(),
        place: backhaul.place.number(),
        listen: backhaul.listen,
        public_key: text(public(&backhaul.private_key_file)?),
        next_public_key: backhaul.next_private_key_file.as_deref().and_then(public).map(text),
        ingress: backhaul.ingress,
        replication: backhaul.replication,
    })
}

/// The part of a configuration that the prober needs.
#[must_use]
pub fn health_plan(config: &Config) -> HealthPlan {
    HealthPlan { limits: config.health.clone(), services: config.services.clone() }
}

/// The part of a configuration that choices are made from.
#[must_use]
pub fn sources(config: &Config) -> Sources {
    let geo = config.proxy.geo.as_deref().and_then(geo);
    let services = config.services.clone();
    Sources { region: config.pop.region.clone(), services, unreached: BTreeSet::new(), geo }
}

/// A database that cannot be read costs the choice by country, and nothing else.
fn geo(path: &Path) -> Option<Arc<Geo>> {
    let read = config::geo::read(path, Geo::MOST_OCTETS).map_err(|error| error.to_string());
    match read.and_then(|octets| Geo::new(octets).map_err(|error| error.to_string())) {
        Ok(geo) => {
            let (name, built) = geo.about();
            info!(file = %path.display(), name, built, "countries of clients are known");
            Some(Arc::new(geo))
        }
        Err(error) => {
            warn!(file = %path.display(), "countries of clients are not known: {error}");
            None
        }
    }
}

/// The log's level for the configuration's word.
#[must_use]
pub fn level(word: LogLevel) -> tracing::Level {
    match word {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    }
}

/// Rooms whose part did not change are not even woken.
fn hand_out<T: PartialEq>(handout: &tokio::sync::watch::Sender<Arc<T>>, new: T) {
    handout.send_if_modified(|current| {
        let changed = **current != new;
        if changed {
            *current = Arc::new(new);
        }
        changed
    });
}
