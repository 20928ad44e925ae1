//! The configuration in force, and how a new one is handed out whole.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::admin::Told;
use crate::announce::ledger::Plan;
use crate::catalog::fleet::Pop;
use crate::catalog::geo::Geo;
use crate::catalog::traffic::FlowBook;
use crate::catalog::view::Sources;
use crate::config::backhaul::Backhaul;
use crate::config::bgp::Bgp;
use crate::config::diff::diff;
use crate::config::load::Source;
use crate::config::observe::LogLevel;
use crate::config::replication::Replication;
use crate::config::{self, Config, load};
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
}

/// The configuration in force and the text it came from.
#[derive(Debug)]
pub struct InForce {
    config: Arc<Config>,
    source: Source,
    handouts: Handouts,
    logs: Logs,
}

impl InForce {
    /// `config` has been handed out already.
    #[must_use]
    pub fn new(config: Arc<Config>, source: Source, handouts: Handouts, logs: Logs) -> Self {
        Self { config, source, handouts, logs }
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
        hand_out(&self.handouts.health, health_plan(&new));
        hand_out(&self.handouts.catalog, sources(&new));
        let proxy = self.handouts.planner.plan(&new);
        self.handouts.proxy.send_replace(Arc::new(proxy));
        self.handouts.flows.send_replace(Arc::new(self.handouts.planner.flows().clone()));
        // What needs a restart stays as it was.
        if let (Some(tunnels), Some(backhaul)) = (&self.handouts.tunnels, &new.backhaul) {
            hand_out(tunnels, Backhaul::clone(backhaul));
        }
        if let (Some(handout), Some(replication)) = (&self.handouts.replication, &new.replication) {
            hand_out(handout, Replication::clone(replication));
        }
        hand_out(&self.handouts.pop, pop(&new));
        hand_out(&self.handouts.policy, Plan::of(&new));
        hand_out(&self.handouts.bgp, new.bgp.clone());
        (std::mem::replace(&mut self.config, new), std::mem::replace(&mut self.source, source))
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
        backhaul: None,
    }
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
    Sources { region: config.pop.region.clone(), services: config.services.clone(), geo }
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
