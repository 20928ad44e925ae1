//! How connections end, and when the neighbor is tried again.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::{Dial, Peer, PeerEvent};
use crate::bgp::collision::Origin;
use crate::bgp::fsm::State;
use crate::bgp::notification::Notification;

/// A session that lived this long wipes the failures before it out.
const PROVEN: Duration = Duration::from_secs(30);
/// A neighbor that announced too much is left alone at least this long.
const MAX_PREFIXES_HOLD: Duration = Duration::from_secs(60);

impl Peer {
    /// Closes a connection that lost against the other one: not a failure of the neighbor.
    pub(super) fn close_quietly(&mut self, origin: Origin, notification: &Notification, now: Instant) {
        if let Some(connection) = &mut self.connections[origin as usize] {
            connection.close_with(notification, now);
        }
    }

    pub(super) fn close(&mut self, origin: Origin, notification: &Notification, words: String, now: Instant) {
        let Some(connection) = &mut self.connections[origin as usize] else { return };
        if connection.is_closing() {
            return;
        }
        let before = connection.state();
        connection.close_with(notification, now);
        let penal = *notification == Notification::max_prefixes();
        self.closed_by_us(origin, before, words, penal, now);
        if penal {
            let until = now + MAX_PREFIXES_HOLD;
            self.refuse_until = self.refuse_until.max(Some(until));
            if let Dial::At(at) = &mut self.dial {
                *at = until.max(*at);
            }
        }
    }

    pub(super) fn closed_by_us(
        &mut self,
        origin: Origin,
        before: State,
        words: String,
        penal: bool,
        now: Instant,
    ) {
        let Some(connection) = self.connections[origin as usize].take() else { return };
        self.lost(&connection, before == State::Established, words, penal, now);
        // It stays until its last words are written and the neighbor has closed.
        self.connections[origin as usize] = Some(connection);
    }

    /// A connection is no more. Without another one under way, the next attempt is planned.
    pub(super) fn lost(
        &mut self,
        connection: &Connection,
        was_established: bool,
        words: String,
        penal: bool,
        now: Instant,
    ) {
        if was_established {
            self.rib.clear();
            self.synced = None;
            if now.duration_since(connection.since) >= PROVEN {
                self.backoff.reset();
            }
        }
        self.report.add(connection);
        let others_live = self.connections.iter().flatten().any(|other| !other.is_closing());
        if others_live && !was_established {
            return;
        }
        self.ended(words, was_established, now);
        if self.stopped {
            return;
        }
        let wait = self.backoff.fail();
        if penal {
            self.refuse_until = Some(now + wait);
        }
        self.redial(wait, now);
    }

    pub(super) fn redial(&mut self, wait: Duration, now: Instant) {
        if !self.neighbor.passive && !self.stopped && self.dial != Dial::InProgress {
            self.dial = Dial::At(now + wait);
        }
    }

    pub(super) fn ended(&mut self, words: String, was_established: bool, now: Instant) {
        self.report.ended(words.clone(), now);
        self.push_event(PeerEvent::Ended { words, was_established });
    }
}
