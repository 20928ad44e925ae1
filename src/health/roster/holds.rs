//! The held connections of all backends: which to open and close, and what their ends mean.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{CheckId, Due, Failure, Roster, Verdict};
use crate::config::services;

/// After this machine ran out of descriptors, no held connection is opened for so long.
const HOLD_PAUSE: Duration = Duration::from_secs(60);

/// A held connection to open.
#[derive(Debug, Clone)]
pub struct Hold {
    pub check: CheckId,
    pub target: SocketAddr,
    pub settings: Arc<services::Check>,
}

impl Roster {
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

    /// Clients were failed by a backend: its check is due at once, unless it is under way.
    pub fn handle_suspect(&mut self, service: &str, backend: &str, now: Instant) {
        let Some(service) = self.services.get(service) else { return };
        let is_meant = |id: &&CheckId| {
            self.entries.get(id).is_some_and(|entry| entry.due.is_some() && entry.check.backend.id == backend)
        };
        if let Some(id) = service.checks.iter().find(is_meant).copied() {
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

    /// After a success: the held connection is opened as soon as its back-off allows.
    pub(super) fn want_hold(&mut self, id: CheckId, now: Instant) {
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
    pub(super) fn suspect_hold(&mut self, id: CheckId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.check.held.is_open() {
            entry.check.held.handle_deaf(now);
            self.release(id);
        }
    }

    /// After running out of descriptors: held connections are a help, probes are the duty.
    pub(super) fn make_room(&mut self, now: Instant) {
        let until = now + HOLD_PAUSE;
        self.holds_paused_until = Some(until);
        let Some(&id) = self.open.last() else { return };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.check.held.handle_evicted(until);
        }
        self.release(id);
    }

    pub(super) fn release(&mut self, id: CheckId) {
        self.open.remove(&id);
        self.opening.remove(&id);
        self.releases.push_back(id);
    }
}
