//! A named task that is aborted when its owner drops it: the only place that spawns one.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::End;

/// A running task. Awaiting it gives its result or how it ended without one; dropping it aborts it.
#[derive(Debug)]
#[must_use = "a task that is dropped is aborted at once"]
pub struct Task<T> {
    name: Cow<'static, str>,
    handle: JoinHandle<T>,
}

impl<T: Send + 'static> Task<T> {
    /// Spawns on the runtime that the caller runs in; panics outside of one.
    pub fn spawn<F>(name: impl Into<Cow<'static, str>>, future: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        Self::spawn_on(name, &Handle::current(), future)
    }

    /// Spawns on the given runtime.
    pub fn spawn_on<F>(name: impl Into<Cow<'static, str>>, runtime: &Handle, future: F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        Self { name: name.into(), handle: runtime.spawn(future) }
    }
}

impl<T> Task<T> {
    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks it to end at its next await; awaiting it then gives [`End::Aborted`], or its result if it was faster.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether it has ended, one way or another.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, End>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(context).map(|joined| {
            joined.map_err(|error| match error.try_into_panic() {
                Ok(panic) => End::of_panic(&*panic),
                Err(_) => End::Aborted,
            })
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn gives_its_result() {
        let task = Task::spawn("seven", async { 7 });
        assert_eq!(task.name(), "seven");
        assert_eq!(task.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_an_end_with_its_message() {
        let task: Task<()> = Task::spawn("broken", async { panic!("no {}", "way") });
        assert_eq!(task.await, Err(End::Panicked("no way".to_owned())));
    }

    #[tokio::test]
    async fn dies_with_its_owner() {
        let (alive, ended) = oneshot::channel::<()>();
        let task = Task::spawn("kept", async move {
            let _alive = alive;
            pending::<()>().await;
        });
        drop(task);
        // The sender goes only when the future itself is dropped.
        assert!(ended.await.is_err());
    }

    #[tokio::test]
    async fn an_aborted_task_says_so() {
        let task = Task::spawn("idle", pending::<()>());
        task.abort();
        assert_eq!(task.await, Err(End::Aborted));
    }
}
