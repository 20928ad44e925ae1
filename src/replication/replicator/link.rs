//! Connections that live, one for each peer, with the task that reads it.

use std::net::SocketAddr;
use std::time::Instant;

use quinn::Connection;
use tracing::{info, warn};

use super::super::version::Origin;
use super::Replicator;
use crate::supervise::task::Task;

pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) id: usize,
    /// By us.
    pub(super) dialed: bool,
    /// Through the tunnel.
    pub(super) inside: bool,
    pub(super) since: Instant,
    _conversation: Task<()>,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        dialed: bool,
        inside: bool,
        since: Instant,
        conversation: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let id = connection.stable_id();
        Self {
            connection,
            id,
            dialed,
            inside,
            since,
            _conversation: Task::spawn("conversation", conversation),
        }
    }

    /// Of the peer, in its own family.
    pub(super) fn address(&self) -> SocketAddr {
        let address = self.connection.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.close(0u32.into(), b"another connection, or none");
    }
}

impl Replicator {
    pub(super) fn connected(&mut self, peer: &Origin, connection: Connection, dialed: bool, now: Instant) {
        if peer == self.replica.origin() {
            connection.close(2u32.into(), b"it is us");
            return warn!("another process has this POP's name and certificate: it must not run twice");
        }
        if let Some(old) = self.links.get(peer) {
            let age = now.saturating_duration_since(old.since);
            if !self.dials.replaces(peer, old.dialed, age, dialed) {
                connection.close(0u32.into(), b"one connection is enough");
                return self.dials.handle_connected(peer, old.inside, now);
            }
            self.replica.handle_disconnected(peer, now);
        }
        let inside = self.is_inside(peer, connection.remote_address());
        let conversation = self.door.converse(peer.clone(), connection.clone());
        let link = Link::new(connection, dialed, inside, now, conversation);
        if self.links.get(peer).is_none_or(|old| old.inside != inside) {
            info!(%peer, address = %link.address(), inside, "connected");
        }
        if let Some(old) = self.links.insert(peer.clone(), link) {
            self.replaced.insert(peer.clone(), (now, old));
        }
        self.unreached.remove(peer);
        self.dials.handle_connected(peer, inside, now);
        self.members();
        self.replica.handle_connected(peer, now);
        self.heartbeats.handle_connected(peer, now);
        self.membership.handle_connected(peer, now);
        self.dirty = true;
    }

    pub(super) fn closed(&mut self, peer: &Origin, id: usize, why: String, now: Instant) {
        if self.links.get(peer).is_none_or(|link| link.id != id) {
            return;
        }
        info!(%peer, why, "the connection is closed");
        self.links.remove(peer);
        self.unreached.insert(peer.clone(), why);
        self.dials.handle_closed(peer, now);
        self.heartbeats.handle_disconnected(peer);
        self.membership.handle_disconnected(peer, now);
        self.replica.handle_disconnected(peer, now);
        self.dirty = true;
    }

    pub(super) fn connection(&self, peer: &Origin) -> Option<Connection> {
        self.links.get(peer).map(|link| link.connection.clone())
    }
}
