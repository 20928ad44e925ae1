//! The check of one backend: its verdict, its last failure, and how soon it wants the next probe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Cause;
use super::held::Held;
use super::hysteresis::{Evidence, Hysteresis};
use super::owner::Owner;
use super::schedule::Tempo;
use super::verdict::{Failure, Outcome, Standing, Verdict};
use crate::catalog::backend::{self, Known};
use crate::catalog::remote::Word;
use crate::config::services;
use crate::observe::status::BackendStatus;

/// A backend's check under one configuration of it. Never used again once the question changed, so
/// that a late answer to an old question finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckId(pub(super) u64);

/// Everything known of one backend of one service.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) service: Arc<str>,
    pub(super) backend: services::Backend,
    pub(super) target: SocketAddr,
    /// Shared by the backends of the service.
    pub(super) settings: Arc<services::Check>,
    pub(super) held: Held,
    /// The start of the last probe; None before the first.
    started: Option<Instant>,
    flying: bool,
    /// Something happened during the probe in flight: another is wanted at its end.
    again: bool,
    /// The probe in flight is an extra one: only proof or success counts.
    extra: bool,
    /// Probes still to be hurried after the held connection ended.
    wary: u32,
    hysteresis: Hysteresis,
    owner: Owner,
    /// Since its POP, or the path to it, took the verdict away.
    disowned: Option<Fall>,
    /// Up by its last probes, but these are too old to be believed.
    starved: bool,
    /// Of the verdict as shown.
    since: Instant,
    /// The last failure, while it matters.
    trouble: Option<Failure>,
    /// What took the verdict away from Up, or kept it from getting there.
    fall: Option<Fall>,
    /// Since when the age of the last finished probe is counted.
    fresh_from: Instant,
    finished: Option<Instant>,
    rtt: Option<Duration>,
    probes: u64,
    failures: u64,
}

/// A failure that decided a verdict.
#[derive(Debug, Clone)]
struct Fall {
    error: String,
    at: Instant,
    proven: bool,
}

impl Check {
    pub(super) fn new(
        service: Arc<str>,
        backend: services::Backend,
        settings: Arc<services::Check>,
        now: Instant,
    ) -> Self {
        Self {
            service,
            target: settings.target(&backend),
            owner: Owner::of(backend.pop.is_some()),
            disowned: None,
            backend,
            held: Held::new(settings.held_connection, now),
            settings,
            started: None,
            flying: false,
            again: false,
            extra: false,
            wary: 0,
            hysteresis: Hysteresis::default(),
            starved: false,
            since: now,
            trouble: None,
            fall: None,
            fresh_from: now,
            finished: None,
            rtt: None,
            probes: 0,
            failures: 0,
        }
    }

    /// Whether a new configuration still asks the same question at the same place, so that what is
    /// known stays true.
    pub(super) fn asks_the_same(&self, backend: &services::Backend, settings: &services::Check) -> bool {
        self.settings.asks_the_same(&self.backend, settings, backend)
    }

    /// Takes a new configuration of the same question. Says whether the rhythm of probing changed.
    pub(super) fn handle_settings(
        &mut self,
        backend: services::Backend,
        settings: Arc<services::Check>,
        now: Instant,
    ) -> bool {
        let rhythm = |check: &services::Check| (check.interval, check.fast_interval);
        let changed = rhythm(&self.settings) != rhythm(&settings);
        if changed {
            // The age of the last probe was in order under the old interval: count it from here.
            self.fresh_from = now;
        }
        self.backend = backend;
        self.settings = settings;
        changed
    }

    /// The last start, or None before the first probe.
    pub(super) fn started(&self) -> Option<Instant> {
        self.started
    }

    pub(super) fn handle_start(&mut self, now: Instant) {
        self.started = Some(now);
        self.flying = true;
    }

    /// Takes the outcome of the probe in flight; says how soon the next is wanted.
    pub(super) fn handle_outcome(&mut self, outcome: &Outcome, now: Instant) -> Tempo {
        self.flying = false;
        self.probes += 1;
        let again = std::mem::take(&mut self.again);
        let extra = std::mem::take(&mut self.extra);
        match outcome {
            Outcome::Success { rtt } => {
                self.finished = Some(now);
                self.rtt = Some(*rtt);
                self.wary = self.wary.saturating_sub(1);
                self.judge(Evidence::Success, None, now);
            }
            Outcome::Failure(failure) => {
                self.failures += 1;
                self.trouble = Some(failure.clone());
                // A fault of this machine neither proves nor acquits the backend: its verdict stays. But it
                // does not count as a finished probe either, so that if it lasts the verdict starves.
                if failure.is_local() {
                    return if again { Tempo::AtOnce } else { Tempo::Normal };
                }
                self.finished = Some(now);
                if failure.is_proven() {
                    self.judge(Evidence::Proven, Some(failure), now);
                } else if !extra {
                    self.judge(Evidence::Inferred, Some(failure), now);
                }
                if failure.is_cut_off() && !extra && self.verdict() == Verdict::Up {
                    // A dying process resets what it had accepted before, or just after, it stops listening:
                    // ask once more now. A refusal settles it; anything else must not count twice.
                    self.extra = true;
                    return Tempo::AtOnce;
                }
            }
        }
        if again {
            Tempo::AtOnce
        } else if self.hysteresis.is_changing() || self.wary > 0 {
            Tempo::Fast
        } else {
            Tempo::Normal
        }
    }

    /// The held connection ended. Says whether a probe is to start now; if one is in flight, it may have
    /// started before that end, and another follows it.
    pub(super) fn handle_held_ended(&mut self) -> bool {
        self.wary = self.settings.fall.max(2);
        self.again = self.flying;
        !self.flying
    }

    /// Looks whether the last finished probe is too old. Says whether the standing may have changed.
    pub(super) fn handle_sweep(&mut self, max_age: Duration, now: Instant) -> bool {
        if self.starved || self.hysteresis.verdict() != Verdict::Up {
            return false;
        }
        let last = self.finished.unwrap_or(self.fresh_from);
        let round = self.settings.interval + self.settings.timeout;
        let limit = round.saturating_mul(self.settings.fall.saturating_add(1)).saturating_add(max_age);
        if now.saturating_duration_since(last.max(self.fresh_from)) <= limit {
            return false;
        }
        let age = Duration::from_millis(now.saturating_duration_since(last).as_millis() as u64);
        let error = match &self.trouble {
            Some(failure) if failure.is_local() => format!("not probed for {age:?}: {failure}"),
            _ => format!("not probed for {age:?}"),
        };
        self.starved = true;
        self.since = now;
        self.fall = Some(Fall { error, at: now, proven: false });
        true
    }

    /// Takes the word of the POP that owns it. Says whether the standing may have changed.
    pub(super) fn handle_word(&mut self, word: Option<&Word>, stale: bool, now: Instant) -> bool {
        let Some(owner) = self.owner.next(word, stale) else { return false };
        let before = self.verdict();
        self.disowned = match &owner {
            Owner::Down(error) => Some(Fall { error: error.clone(), at: now, proven: true }),
            _ => None,
        };
        self.owner = owner;
        if self.verdict() != before {
            self.since = now;
        }
        true
    }

    /// The verdict as it is shown and counted: of our own probes, unless who owns it knows better.
    pub(super) fn verdict(&self) -> Verdict {
        let own = match self.starved {
            // The operator vouches for it.
            _ if self.settings.is_off() => Verdict::Up,
            true => Verdict::Down,
            false => self.hysteresis.verdict(),
        };
        match self.owner {
            Owner::Ourselves | Owner::Up => own,
            Owner::Unheard if own == Verdict::Up => Verdict::Unproven,
            Owner::Unheard => own,
            Owner::Down(_) => Verdict::Down,
        }
    }

    /// What took the verdict away.
    fn fallen(&self) -> Option<&Fall> {
        self.disowned.as_ref().or(self.fall.as_ref())
    }

    pub(super) fn standing(&self) -> Standing {
        let verdict = self.verdict();
        Standing { healthy: verdict == Verdict::Up, judged: verdict != Verdict::Unproven }
    }

    /// When the backend's verdict fell; None while it is not down.
    pub(super) fn fell_at(&self) -> Option<Instant> {
        self.fallen().map(|fall| fall.at)
    }

    /// What to say if the service blames this backend; None while it is not down.
    pub(super) fn cause(&self) -> Option<Cause> {
        let fall = self.fallen()?;
        Some(Cause {
            service: self.service.to_string(),
            backend: self.backend.id.clone(),
            target: self.target,
            error: fall.error.clone(),
            failed_at: fall.at,
            proven: fall.proven,
        })
    }

    /// As the choice of a backend sees it.
    pub(super) fn known(&self) -> Known {
        let verdict = match self.verdict() {
            Verdict::Up => backend::Verdict::Up,
            Verdict::Down => backend::Verdict::Down,
            Verdict::Unproven => backend::Verdict::Unproven,
        };
        Known { verdict, since: Some(self.since), rtt: self.rtt }
    }

    pub(super) fn status(&self, now: Instant) -> BackendStatus {
        let millis = |since: Instant| now.saturating_duration_since(since).as_millis() as u64;
        let error = match (&self.fall, &self.trouble) {
            _ if self.disowned.is_some() => self.disowned.as_ref().map(|fall| fall.error.clone()),
            (Some(fall), _) if self.starved => Some(fall.error.clone()),
            (_, Some(failure)) => Some(failure.to_string()),
            (_, None) => None,
        };
        BackendStatus {
            id: self.backend.id.clone(),
            target: self.target.to_string(),
            region: self.backend.region.clone(),
            weight: self.backend.weight,
            verdict: self.verdict().word().to_owned(),
            since_ms: millis(self.since),
            error,
            rtt_us: self.rtt.map(|rtt| rtt.as_micros() as u64),
            last_probe_ms_ago: self.finished.map(millis),
            probes: self.probes,
            failures: self.failures,
            held_connection: self.held.word().to_owned(),
        }
    }

    fn judge(&mut self, evidence: Evidence, failure: Option<&Failure>, now: Instant) {
        let before = self.verdict();
        self.hysteresis.handle(evidence, self.settings.rise, self.settings.fall);
        // Starvation ends with news: a success, or a verdict of its own. A failure that is still being
        // counted is no reason to believe in the backend again.
        if evidence == Evidence::Success || self.hysteresis.verdict() != Verdict::Up {
            self.starved = false;
        }
        let after = self.verdict();
        if after != before {
            self.since = now;
        }
        match (self.hysteresis.verdict(), failure) {
            (Verdict::Up, None) => {
                self.fall = None;
                self.trouble = None;
            }
            (Verdict::Down, Some(failure)) => {
                let proven = failure.is_proven();
                let is_news = self.fall.as_ref().is_none_or(|fall| proven && !fall.proven);
                if is_news || after != before {
                    self.fall = Some(Fall { error: failure.to_string(), at: now, proven });
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
