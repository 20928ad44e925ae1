//! A connection that lives, with the task that reads it.

use quinn::Connection;

use crate::supervise::task::Task;

pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) id: usize,
    /// By us.
    pub(super) dialed: bool,
    _conversation: Task<()>,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        dialed: bool,
        conversation: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let id = connection.stable_id();
        Self { connection, id, dialed, _conversation: Task::spawn("conversation", conversation) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.close(0u32.into(), b"another connection, or none");
    }
}
