//! Tasks of one thread, which never leave it and end with it.
#![expect(clippy::disallowed_methods, reason = "driver: the one place that spawns them")]

use std::future::Future;

use tokio::task::{AbortHandle, spawn_local};

/// A task of this thread's local runtime. Dropping it aborts it.
#[derive(Debug)]
#[must_use = "a task that is dropped is aborted at once"]
pub struct LocalTask(AbortHandle);

impl LocalTask {
    /// Starts a task that its owner holds. Panics outside of a local runtime.
    pub fn spawn(future: impl Future<Output = ()> + 'static) -> Self {
        Self(spawn_local(future).abort_handle())
    }
}

impl Drop for LocalTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a task that belongs to the thread itself: it is dropped with the thread's runtime. For those that are many
/// and short, such as connections. Panics outside of a local runtime.
pub fn spawn_for_the_thread(future: impl Future<Output = ()> + 'static) {
    drop(spawn_local(future));
}
