//! An operating system thread with a runtime of its own, for work that no load elsewhere may delay.
#![expect(clippy::disallowed_methods, reason = "driver: joins with a deadline")]

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::End;

/// So many tasks are run before the thread's own future, its timers and its sockets have their turn.
const TASKS_IN_A_ROW: u32 = 8;

/// A running thread. Awaiting it gives its result or how it ended without one; dropping it drops its
/// future at its next await. A thread that blocks cannot be ended from outside.
#[derive(Debug)]
#[must_use = "a thread that is dropped is told to end at once"]
pub struct Thread<T> {
    name: String,
    ended: oneshot::Receiver<Result<T, End>>,
    abort: CancellationToken,
}

impl<T: Send + 'static> Thread<T> {
    /// Starts a thread that runs the future of `make` on a current-thread runtime. The future is made
    /// on the thread and never leaves it, so it need not be `Send`. Tasks it spawns end with it.
    ///
    /// The kernel shows the first 15 octets of `name`. Fails where the kernel refuses a thread.
    pub fn spawn<M, F>(name: impl Into<String>, make: M) -> io::Result<Self>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = T>,
    {
        let runtime = Builder::new_current_thread().enable_all().event_interval(TASKS_IN_A_ROW).build()?;
        Self::start(name.into(), Some(runtime), make)
    }

    /// The same on a local runtime, on which [`super::local`] works: for threads that have very many tasks of their
    /// own, and turn to their sockets in between as often as tokio finds best.
    pub fn spawn_local<M, F>(name: impl Into<String>, make: M) -> io::Result<Self>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = T>,
    {
        Self::start(name.into(), None, make)
    }

    /// A local runtime cannot be moved: without one given, the thread builds its own.
    fn start<M, F>(name: String, runtime: Option<Runtime>, make: M) -> io::Result<Self>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = T>,
    {
        let abort = CancellationToken::new();
        let aborted = abort.clone();
        let (tell, ended) = oneshot::channel();
        std::thread::Builder::new().name(name.clone()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(move || {
                let life = async {
                    tokio::select! {
                        biased;
                        () = aborted.cancelled() => Err(End::Aborted),
                        result = async { make().await } => Ok(result),
                    }
                };
                // Blocking work that it left behind must not keep the end from being told.
                if let Some(runtime) = runtime {
                    let result = runtime.block_on(life);
                    runtime.shutdown_background();
                    return result;
                }
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                let runtime = runtime.map_err(|error| End::Panicked(format!("no runtime: {error}")))?;
                let result = runtime.block_on(life);
                runtime.shutdown_background();
                result
            }));
            let _ = tell.send(result.unwrap_or_else(|panic| Err(End::of_panic(&*panic))));
        })?;
        Ok(Self { name, ended, abort })
    }

    /// Waits for its end; after `within` its future is dropped, and after as long again it is given
    /// up as [`End::Late`].
    pub async fn join(mut self, within: Duration) -> Result<T, End> {
        if let Ok(result) = timeout(within, &mut self).await {
            return result;
        }
        self.abort.cancel();
        timeout(within, &mut self).await.unwrap_or(Err(End::Late))
    }
}

impl<T> Thread<T> {
    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Future for Thread<T> {
    type Output = Result<T, End>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.ended.is_terminated() {
            // It has been told already; asking again is no reason to panic.
            return Poll::Ready(Err(End::Aborted));
        }
        Pin::new(&mut self.ended).poll(context).map(|told| told.unwrap_or(Err(End::Aborted)))
    }
}

impl<T> Drop for Thread<T> {
    fn drop(&mut self) {
        self.abort.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::rc::Rc;

    use super::*;
    use crate::supervise::task::Task;

    #[tokio::test]
    async fn runs_on_a_thread_of_its_own_name() {
        let thread = Thread::spawn("bgp", || async {
            let not_send = Rc::new(40);
            let two = Task::spawn("inner", async { 2 }).await.unwrap();
            (std::thread::current().name().map(str::to_owned), *not_send + two)
        });
        assert_eq!(thread.unwrap().await, Ok((Some("bgp".to_owned()), 42)));
    }

    #[tokio::test]
    async fn its_panic_is_reported_like_a_tasks() {
        let thread = Thread::<()>::spawn("t", || async { panic!("boom") }).unwrap();
        assert_eq!(thread.await, Err(End::Panicked("boom".to_owned())));
        let thread = Thread::spawn("t", || -> std::future::Ready<()> { panic!("early") }).unwrap();
        assert_eq!(thread.await, Err(End::Panicked("early".to_owned())));
    }

    #[tokio::test]
    async fn its_future_ends_with_its_owner() {
        let (alive, ended) = oneshot::channel::<()>();
        let thread = Thread::spawn("t", move || async move {
            let _alive = alive;
            pending::<()>().await;
        });
        drop(thread);
        assert!(ended.await.is_err());
    }

    #[tokio::test]
    async fn joining_has_a_deadline() {
        let idle = Thread::spawn("idle", pending::<()>).unwrap();
        assert_eq!(idle.join(Duration::from_millis(200)).await, Err(End::Aborted));

        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let hung = Thread::spawn("hung", move || async move { blocked.recv() }).unwrap();
        assert_eq!(hung.join(Duration::from_millis(10)).await.unwrap_err(), End::Late);
        drop(release);
    }
}
