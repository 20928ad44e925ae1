//! A new configuration as a transaction: judged, stored, put in force, confirmed, or undone by itself.
//!
//! Told the time, and waiting for the disk: a few small files, on the control runtime, where nothing but
//! operators waits with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tracing::error;

use super::forecast::{Forecast, Present, forecast};
use super::gate::{self, Offer, Pass, Standing};
use super::reload::InForce;
use crate::admin::{Offered, Told};
use crate::config::Config;
use crate::config::duration::written;
use crate::config::generation::{Entry, Step, Store, StoreError};
use crate::config::load::{self, Source};
use crate::config::signature::Signature;
use crate::observe::status::{NeighborStatus, PendingStatus, PrefixStatus, ProcessStatus, ServiceStatus};

/// How long an operator may take to confirm.
pub const CONFIRM_WITHIN: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Where the present is read when a configuration is judged.
#[derive(Debug, Clone)]
pub struct Screens {
    pub neighbors: watch::Receiver<Arc<Vec<Arc<NeighborStatus>>>>,
    pub prefixes: watch::Receiver<Arc<Vec<PrefixStatus>>>,
    pub services: watch::Receiver<Arc<Vec<ServiceStatus>>>,
}

/// What is in force unconfirmed, and what comes back.
#[derive(Debug)]
struct Pending {
    entry: Entry,
    until: Instant,
    within: Duration,
    back: (Arc<Config>, Source),
}

/// The configuration in force, and everything that may happen to it.
#[derive(Debug)]
pub struct Transactions {
    /// The file that a reload reads.
    path: PathBuf,
    in_force: InForce,
    store: Store,
    watched: Screens,
    pending: Option<Pending>,
    /// Why the last reload was refused, until something is accepted.
    refused: Option<String>,
    /// What was undone by itself, until something is accepted.
    undone: Option<String>,
}

impl Transactions {
    /// `path` is the file that a reload reads.
    #[must_use]
    pub fn new(path: PathBuf, in_force: InForce, store: Store, watched: Screens) -> Self {
        Self { path, in_force, store, watched, pending: None, refused: None, undone: None }
    }

    /// What the other POPs say may have changed.
    pub fn handle_fleet(&mut self) {
        self.in_force.handle_fleet();
    }

    /// The configuration in force.
    #[must_use]
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Whether what is in force waits for its confirmation.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Reads the file again and takes it for good. What cannot be stored is taken all the same: the file is
    /// there for the next start. Returns the changes.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub fn reload(&mut self, now: Instant) -> Result<Told, String> {
        let result = self.read_and_take(now);
        match &result {
            Ok(_) => self.accepted(),
            Err(why) => self.refused = Some(why.clone()),
        }
        result
    }

    fn read_and_take(&mut self, now: Instant) -> Result<Told, String> {
        let source = load::read(&self.path).map_err(|error| error.to_string())?;
        let config = source.parse().map_err(|problems| problems.in_file(&self.path).to_string())?;
        let changes = self.in_force.changes(&config)?;
        let (_, pass) = self.judge(&source, &config, false, now)?;
        let generation = config.generation;
        let entry = match pass {
            Pass::New => self.store.put(generation, &source).map(Some),
            Pass::Same => Ok(None),
        };
        self.switch(config, source)?;
        let kept = entry.and_then(|entry| entry.map_or(Ok(()), |entry| self.store.confirm(entry)));
        if let Err(error) = kept {
            error!(
                "generation {generation} is in force but not remembered; a restart reads the file: {error}"
            );
        }
        Ok(changes)
    }

    /// What an offered configuration would do, and whether it would be refused.
    ///
    /// # Errors
    /// Every problem of its text.
    pub fn plan(&self, offered: Offered, now: Instant) -> Result<Told, String> {
        let (source, config) = read(offered)?;
        let (forecast, judged) = self.look(&source, &config, false, now);
        let refused = judged.err();
        let mut text = forecast.to_string();
        if let Some(why) = &refused {
            text += &format!("\n\nit would be refused: {why}");
        }
        Ok(Told { text, document: document(&forecast, json!({ "refused": refused }))? })
    }

    /// Puts an offered configuration in force: for good, or until `within` has passed without
    /// [`confirm`](Self::confirm).
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub fn apply(
        &mut self,
        offered: Offered,
        within: Option<Duration>,
        allow_withdraw: bool,
        now: Instant,
    ) -> Result<Told, String> {
        if let Some(within) = within.filter(|within| !CONFIRM_WITHIN.contains(within)) {
            return Err(format!("{} to confirm is out of range\n  hint: 1s to 24h", written(within)));
        }
        let (source, config) = read(offered)?;
        let (forecast, pass) = self.judge(&source, &config, allow_withdraw, now)?;
        let generation = config.generation;
        let (back_to, mut state) = (self.in_force.config().generation, json!({ "confirmed": true }));
        let words = match (pass, within) {
            (Pass::Same, _) => {
                // Certificates and secrets are part of the configuration, and not of its text.
                let more = match config == **self.in_force.config() {
                    true => "",
                    false => "; files that it names changed, and are taken",
                };
                self.switch(config, source)?;
                format!("generation {generation} is in force already{more}")
            }
            (Pass::New, within) => {
                // What comes back in case of need must be there for a restart too.
                self.keep_running().map_err(|error| error.to_string())?;
                let entry = self.store.put(generation, &source).map_err(|error| error.to_string())?;
                if let Some(within) = within {
                    self.store.try_out(&entry).map_err(|error| error.to_string())?;
                    let back = self.switch(config, source)?;
                    self.pending = Some(Pending { entry, until: now + within, within, back });
                    state = json!({
                        "confirmed": false,
                        "confirm_within_ms": within.as_millis() as u64,
                        "back_to": back_to,
                    });
                    format!(
                        "generation {generation} is in force for {}: `edgeproxy confirm` keeps it, \
                         otherwise generation {back_to} comes back by itself",
                        written(within)
                    )
                } else {
                    let back = self.switch(config, source)?;
                    self.confirm_or_back(entry, back)?;
                    format!("generation {generation} is in force and confirmed")
                }
            }
        };
        self.accepted();
        Ok(Told { text: format!("{forecast}\n\n{words}"), document: document(&forecast, state)? })
    }

    /// Keeps what waits for its confirmation.
    ///
    /// # Errors
    /// When nothing waits, or it cannot be stored: then it goes on waiting.
    pub fn confirm(&mut self) -> Result<Told, String> {
        let pending = self.pending.as_ref().ok_or("nothing waits for a confirmation")?;
        let generation = pending.entry.generation;
        self.store
            .confirm(pending.entry.clone())
            .map_err(|error| format!("generation {generation} is not confirmed and waits still: {error}"))?;
        self.pending = None;
        let text = format!("generation {generation} is confirmed");
        Ok(Told { text, document: json!({ "generation": generation, "confirmed": true }) })
    }

    /// Ends what waits for its confirmation; otherwise goes back to a stored generation, by default to the
    /// newest that is older than the one in force.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub fn rollback(&mut self, to: Option<u64>, allow_withdraw: bool, now: Instant) -> Result<Told, String> {
        if let Some(pending) = &self.pending {
            let (generation, back_to) = (pending.entry.generation, pending.back.0.generation);
            if to.is_some_and(|to| to != back_to) {
                return Err(gate::Refusal::Pending(generation).to_string());
            }
            // No rule is asked: the end of its time would do the same.
            self.undo();
            let text = format!("generation {generation} is undone: generation {back_to} is in force again");
            return Ok(Told { text, document: json!({ "generation": back_to, "undone": generation }) });
        }
        let running = self.in_force.config().generation;
        let to = to.or_else(|| self.store.before(running)).ok_or_else(|| {
            format!(
                "no generation older than the running {running} is stored: there is nothing to go back to"
            )
        })?;
        self.store.prepare().map_err(|error| error.to_string())?;
        let (entry, source, config) = self.store.get(to).map_err(|error| error.to_string())?;
        let forecast = self.forecast(&config, now);
        gate::light(self.in_force.config(), &forecast.darkened(), allow_withdraw)
            .map_err(|refusal| refusal.to_string())?;
        let back = self.switch(config, source)?;
        self.confirm_or_back(entry, back)?;
        self.accepted();
        let text = format!(
            "{forecast}\n\ngeneration {to} is in force and confirmed; the next file needs a generation over {}",
            self.store.highest()
        );
        Ok(Told { text, document: document(&forecast, json!({ "confirmed": true }))? })
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.until)
    }

    /// Undoes what nobody confirmed in time; says so.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<String> {
        let pending = self.pending.as_ref().filter(|pending| pending.until <= now)?;
        let words = format!(
            "generation {} was not confirmed within {}: generation {} is in force again",
            pending.entry.generation,
            written(pending.within),
            pending.back.0.generation
        );
        self.undo();
        self.undone = Some(words.clone());
        Some(words)
    }

    /// The process's own status document, as far as it is known here.
    #[must_use]
    pub fn process_status(
        &self,
        phase: &str,
        uptime: Duration,
        hung_threads: Vec<String>,
        now: Instant,
    ) -> ProcessStatus {
        let config = self.in_force.config();
        let pending = self.pending.as_ref().map(|pending| PendingStatus {
            generation: pending.entry.generation,
            confirm_within_ms: pending.until.saturating_duration_since(now).as_millis() as u64,
            back_to: pending.back.0.generation,
        });
        ProcessStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pop: config.pop.id.clone(),
            region: config.pop.region.clone(),
            generation: config.generation,
            uptime_ms: uptime.as_millis() as u64,
            pid: std::process::id(),
            phase: phase.to_owned(),
            refused_reload: self.refused.clone(),
            pending,
            undone: self.undone.clone(),
            hung_threads,
            leases: None,
        }
    }

    fn accepted(&mut self) {
        self.refused = None;
        self.undone = None;
    }

    fn judge(
        &self,
        source: &Source,
        config: &Config,
        allow_withdraw: bool,
        now: Instant,
    ) -> Result<(Forecast, Pass), String> {
        let (forecast, judged) = self.look(source, config, allow_withdraw, now);
        judged.map(|pass| (forecast, pass))
    }

    fn look(
        &self,
        source: &Source,
        config: &Config,
        allow_withdraw: bool,
        now: Instant,
    ) -> (Forecast, Result<Pass, String>) {
        let forecast = self.forecast(config, now);
        let standing = Standing {
            config: self.in_force.config(),
            text: &self.in_force.source().text,
            highest: self.store.highest(),
            pending: self.pending.as_ref().map(|pending| pending.entry.generation),
        };
        let (generation, darkened) = (config.generation, forecast.darkened());
        let offer = Offer { source, generation, darkened: &darkened, allow_withdraw };
        let judged = gate::judge(&standing, &offer).map_err(|refusal| refusal.to_string());
        (forecast, judged)
    }

    fn forecast(&self, new: &Config, now: Instant) -> Forecast {
        let (prefixes, neighbors, services) = (
            self.watched.prefixes.borrow().clone(),
            self.watched.neighbors.borrow().clone(),
            self.watched.services.borrow().clone(),
        );
        let present = Present { prefixes: &prefixes, neighbors: &neighbors, services: &services };
        forecast(self.in_force.config(), new, &present, now)
    }

    /// Stores what is in force, unless it is stored and confirmed: a start may not have been able to.
    fn keep_running(&mut self) -> Result<(), StoreError> {
        let source = self.in_force.source();
        if self.store.is_confirmed(&source.text) {
            return Ok(());
        }
        let entry = self.store.put(self.in_force.config().generation, source)?;
        self.store.confirm(entry)
    }

    /// Returns what was in force before.
    fn switch(&mut self, config: Config, source: Source) -> Result<(Arc<Config>, Source), String> {
        let words = |error: StoreError| error.to_string();
        self.store.reached(Step::BeforeSwitch).map_err(words)?;
        let before = self.in_force.switch(Arc::new(config), source);
        self.store.reached(Step::Switched).map_err(words)?;
        Ok(before)
    }

    /// Confirms what was just put in force, or puts `back` in force again.
    fn confirm_or_back(&mut self, entry: Entry, back: (Arc<Config>, Source)) -> Result<(), String> {
        let generation = entry.generation;
        self.store.confirm(entry).map_err(|error| {
            self.in_force.switch(back.0, back.1);
            self.store.discard(generation);
            error.to_string()
        })
    }

    /// Puts what was in force before the pending configuration in force again.
    fn undo(&mut self) {
        if let Some(Pending { entry, back, .. }) = self.pending.take() {
            self.in_force.switch(back.0, back.1);
            self.store.discard(entry.generation);
        }
    }
}

fn read(offered: Offered) -> Result<(Source, Config), String> {
    let Offered { text, base, signature } = offered;
    let signature = signature.map(|words| Signature::read(words.as_bytes()));
    let source = Source { text, base, signature };
    let config = source.parse().map_err(|problems| problems.to_string())?;
    Ok((source, config))
}

/// The forecast with what else is to be said.
fn document(forecast: &Forecast, more: serde_json::Value) -> Result<serde_json::Value, String> {
    let mut document = serde_json::to_value(forecast).map_err(|error| error.to_string())?;
    if let (Some(all), serde_json::Value::Object(more)) = (document.as_object_mut(), more) {
        all.extend(more);
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
