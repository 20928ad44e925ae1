//! What the core of replication wants done: on connections, on the disk, and told to others.

use std::time::Instant;

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::super::frame::Request;
use super::super::quic::{Heard, ask};
use super::super::replica::{Effect, Fetched};
use super::super::store::Work;
use super::super::tables::POPS;
use super::{BUSY, HEARD_OF, MOST_ASKED, Replicator, limits};

impl Replicator {
    pub(super) fn act(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Push { to, spread, offer } => {
                let Some(connection) = self.connection(&to) else { return };
                if self.asked.len() < MOST_ASKED {
                    let octets = Request::Push { spread, offer: (*offer).clone() }.octets();
                    self.asked.spawn(ask::push(connection, octets.into()));
                }
            }
            Effect::Compare { with, buckets, yours } => {
                let Some(connection) = self.connection(&with) else { return };
                let tell = self.tell.clone();
                self.asked.spawn(async move {
                    if let Some(known) = ask::compare(connection, Request::Compare { buckets, yours }).await {
                        let _ = tell.send(Heard::Compared { peer: with, known }).await;
                    }
                });
            }
            Effect::Fetch { from, origin, have } => {
                let (tell, connection) = (self.tell.clone(), self.connection(&from));
                let limits = limits(&self.config);
                self.asked.spawn(async move {
                    let fetched = match connection {
                        Some(connection) => ask::fetch(connection, origin.clone(), have, limits).await,
                        None => Fetched::Later(BUSY),
                    };
                    let _ = tell.send(Heard::Fetched { peer: from, origin, fetched }).await;
                });
            }
            Effect::Persist { offer, gone } => {
                let (done, persisted) = oneshot::channel();
                let work = Work::Own { head: offer.head, rows: offer.rows, gone, done };
                self.persisting = Some(persisted);
                // What cannot be sent drops `done`, and that is heard as a failure.
                if let Err(error) = self.ends.work.try_send(work) {
                    debug!("the disk does not take our rows: {error}");
                }
            }
            Effect::Keep { head, whole, rows, gone } => {
                let origin = head.head.origin.clone();
                let work = Work::Remote { head, rows, whole, gone };
                if self.unkept.contains(&origin) || self.ends.work.try_send(work).is_err() {
                    self.unkept.insert(origin);
                }
            }
            Effect::Written { ticket, result } => {
                if let Some(done) = self.tickets.remove(&ticket) {
                    done(result);
                } else if let Err(error) = result {
                    warn!("what this POP has to say is not written: {error}");
                }
            }
            Effect::Changed { origin, applied } => {
                self.projection.handle_changed(&origin, &applied);
                self.dirty = true;
                if origin == *self.replica.origin() {
                    self.say();
                } else if applied.rows.iter().any(|row| row.key.table == POPS) {
                    self.members();
                    self.resolve_at = self.resolve_at.min(now + HEARD_OF);
                }
            }
        }
    }

    /// Sends whole origins to the disk again, as many as it takes.
    pub(super) fn keep_again(&mut self) {
        while let Some(origin) = self.unkept.first().cloned() {
            if let Some(offer) = self.replica.ledger().lacking(&origin, None) {
                let work = Work::Remote { head: offer.head, rows: offer.rows, whole: true, gone: Vec::new() };
                if self.ends.work.try_send(work).is_err() {
                    return;
                }
            }
            self.unkept.remove(&origin);
        }
    }
}
