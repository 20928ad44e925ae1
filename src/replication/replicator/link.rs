//! A connection that lives, with the task that reads it.

use std::time::Instant;

use quinn::Connection;

use crate::supervise::task::Task;

pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) id: usize,
    /// By us.
    pub(super) dialed: bool,
    pub(super) since: Instant,
    _conversation: Task<()>,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        dialed: bool,
        since: Instant,
        conversation: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let id = connection.stable_id();
        Self { connection, id, dialed, since, _conversation: Task::spawn("conversation", conversation) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.close(0u32.into(), b"another connection, or none");
    }
}
