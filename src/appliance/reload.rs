//! A new configuration, handed out whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::wiring::{Handouts, health_plan};
use crate::admin::Told;
use crate::announce::ledger::Plan;
use crate::config::diff::{Diff, diff};
use crate::config::observe::LogLevel;
use crate::config::{Config, load};
use crate::observe::log::Logs;
use crate::observe::status::ProcessStatus;

/// The configuration in force and how it is replaced.
pub struct Reload {
    path: PathBuf,
    current: Arc<Config>,
    handouts: Handouts,
    logs: Logs,
    /// Why the last reload was refused, until one succeeds.
    refused: Option<String>,
}

impl Reload {
    /// `current` has been handed out already.
    #[must_use]
    pub fn new(path: PathBuf, current: Arc<Config>, handouts: Handouts, logs: Logs) -> Self {
        Self { path, current, handouts, logs, refused: None }
    }

    /// The configuration in force.
    #[must_use]
    pub fn current(&self) -> &Arc<Config> {
        &self.current
    }

    /// Reads the file again and hands out what changed. Returns the changes.
    ///
    /// # Errors
    /// Every problem of the file; nothing has changed then.
    pub fn reload(&mut self) -> Result<Told, String> {
        let result =
            load::load(&self.path).map_err(|error| error.to_string()).and_then(|new| self.accept(new));
        self.refused = result.as_ref().err().cloned();
        result
    }

    fn accept(&mut self, new: Config) -> Result<Told, String> {
        let (old_generation, new_generation) = (self.current.generation, new.generation);
        if new_generation < old_generation {
            return Err(format!(
                "{}: generation {new_generation} is older than the running generation {old_generation}\n  \
                 hint: generations only grow; raise it to {} if this file is meant",
                self.path.display(),
                old_generation + 1
            ));
        }
        let changes = told(&diff(&self.current, &new))?;
        self.logs.set_level(level(new.observe.log.level));
        let new = Arc::new(new);
        // Checks first, so that a new prefix finds its services known; then what depends on them.
        hand_out(&self.handouts.health, health_plan(&new));
        hand_out(&self.handouts.policy, Plan::of(&new));
        hand_out(&self.handouts.bgp, new.bgp.clone());
        self.current = new;
        Ok(changes)
    }

    /// What a text would change, without changing it.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn compare(&self, text: &str, base: &Path) -> Result<Told, String> {
        let new = load::parse(text, base).map_err(|problems| problems.to_string())?;
        told(&diff(&self.current, &new))
    }

    /// The process's own status document.
    #[must_use]
    pub fn process_status(&self, phase: &str, uptime: Duration, hung_threads: Vec<String>) -> ProcessStatus {
        ProcessStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pop: self.current.pop.id.clone(),
            region: self.current.pop.region.clone(),
            generation: self.current.generation,
            uptime_ms: uptime.as_millis() as u64,
            pid: std::process::id(),
            phase: phase.to_owned(),
            refused_reload: self.refused.clone(),
            hung_threads,
        }
    }
}

fn told(changes: &Diff) -> Result<Told, String> {
    let document = serde_json::to_value(changes).map_err(|error| error.to_string())?;
    Ok(Told { text: changes.to_string(), document })
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
