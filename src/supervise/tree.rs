//! Runs named children until told to stop or until an essential one ends.
#![expect(clippy::disallowed_methods, reason = "driver: waits out back-offs and the grace of a stop")]

use std::borrow::Cow;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::restart::{After, Duty, Recent, after_end};
use super::task::Task;

/// How long children may take to end once they are told to, unless [`Tree::grace`] says otherwise.
const GRACE: Duration = Duration::from_secs(5);

type Life = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
/// A child through all its lives.
type Lives = Pin<Box<dyn Future<Output = Result<(), Fallen>> + Send>>;
type Make = Box<dyn FnMut() -> Life + Send>;

/// A set of children. They start when the tree first runs and are aborted when it is dropped.
#[must_use = "children start when the tree runs"]
pub struct Tree {
    stop: CancellationToken,
    lives: FuturesUnordered<Lives>,
    grace: Duration,
}

struct Child {
    name: Cow<'static, str>,
    duty: Duty,
    make: Make,
    recent: Recent,
}

/// An essential child ended although nobody asked it to: withdraw and exit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{child} ended: {why}")]
pub struct Fallen {
    pub child: String,
    pub why: String,
}

impl Tree {
    /// A tree without children that runs until `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, lives: FuturesUnordered::new(), grace: GRACE }
    }

    /// How long children may take to end after `stop`, before they are aborted. Default 5 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds a child. `make` is called for every start; each future should end soon after the tree's
    /// token is cancelled, and never before.
    pub fn child<M, F, E>(self, name: impl Into<Cow<'static, str>>, duty: Duty, mut make: M) -> Self
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let make: Make = Box::new(move || {
            let life = make();
            Box::pin(async move { life.await.map_err(|error| error.to_string()) })
        });
        let child = Child { name: name.into(), duty, make, recent: Recent::default() };
        self.lives.push(Box::pin(child.live(self.stop.clone())));
        self
    }

    /// Runs the children. Returns `Ok` once all have ended after `stop` was cancelled (or the grace
    /// is over), and [`Fallen`] when an essential child ends before that. After a fall the others
    /// still live, so that the owner can withdraw through them; then it cancels `stop` and runs the
    /// tree once more, or drops it.
    pub async fn run(&mut self) -> Result<(), Fallen> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                ended = self.lives.next() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(fallen)) => return Err(fallen),
                    None => {
                        // Without children the tree still lasts as long as its owner wants it to.
                        self.stop.cancelled().await;
                        break;
                    }
                },
            }
        }
        let deadline = Instant::now() + self.grace;
        while let Ok(Some(_)) = timeout_at(deadline, self.lives.next()).await {}
        self.lives.clear();
        Ok(())
    }
}

impl Child {
    /// Lives and lives again until `stop`; ends early only if it is essential.
    async fn live(mut self, stop: CancellationToken) -> Result<(), Fallen> {
        loop {
            let born = Instant::now();
            // A task of its own, so that a panic is caught and siblings run on other threads.
            let why = match Task::spawn(self.name.clone(), (self.make)()).await {
                Ok(Ok(())) => "it returned, though nobody asked it to".to_owned(),
                Ok(Err(error)) => error,
                Err(end) => end.to_string(),
            };
            if stop.is_cancelled() {
                return Ok(());
            }
            self.recent = self.recent.and_ended_after(born.elapsed());
            match after_end(self.duty, self.recent) {
                After::WithdrawAndExit => {
                    tracing::error!(task = %self.name, %why, "an essential task ended");
                    return Err(Fallen { child: self.name.into_owned(), why });
                }
                After::Again(delay) => {
                    tracing::warn!(task = %self.name, %why, ?delay, "a task ended; it is started again");
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        () = sleep(delay) => {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn an_essential_end_is_told_with_its_cause_and_the_others_live_on() {
        let stop = CancellationToken::new();
        let count = Arc::new(AtomicU32::new(0));
        let mut tree = Tree::new(stop.clone())
            .child("announcer", Duty::Essential, late_to_stop(&stop, &count))
            .child("speaker", Duty::Essential, || async { Err("port taken") });
        assert_eq!(tree.run().await.unwrap_err().to_string(), "speaker ended: port taken");
        stop.cancel();
        assert_eq!(tree.run().await, Ok(()));
        assert_eq!(count.load(Ordering::SeqCst), 1, "the announcer came to its own end");
    }

    #[tokio::test]
    async fn an_essential_panic_or_return_is_an_end_too() {
        let tree = |child: fn()| {
            Tree::new(CancellationToken::new()).child("a", Duty::Essential, move || async move {
                child();
                Ok::<(), Infallible>(())
            })
        };
        assert!(tree(|| ()).run().await.is_err());
        assert_eq!(tree(|| panic!("boom")).run().await.unwrap_err().why, "panicked: boom");
    }

    #[tokio::test]
    async fn a_restartable_child_comes_back() {
        let stop = CancellationToken::new();
        let (born, mut births) = mpsc::channel(4);
        let starts = Arc::new(AtomicU32::new(0));
        let mut tree = Tree::new(stop.clone()).grace(Duration::from_millis(10)).child(
            "discovery",
            Duty::Restartable,
            move || {
                let start = starts.fetch_add(1, Ordering::SeqCst);
                let _ = born.try_send(start);
                async move { if start < 2 { Err("not yet") } else { pending().await } }
            },
        );
        let running = Task::spawn("tree", async move { tree.run().await });
        for expected in 0..3 {
            assert_eq!(births.recv().await, Some(expected));
        }
        stop.cancel();
        assert_eq!(running.await, Ok(Ok(())), "a child that does not stop is aborted after the grace");
    }

    #[tokio::test]
    async fn stopping_waits_for_the_children() {
        let stop = CancellationToken::new();
        let count = Arc::new(AtomicU32::new(0));
        let mut tree = Tree::new(stop.clone()).child("prober", Duty::Essential, late_to_stop(&stop, &count));
        let running = Task::spawn("tree", async move { tree.run().await });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        stop.cancel();
        assert_eq!(running.await, Ok(Ok(())));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    /// A child that counts its own clean end, a little after it was asked to.
    fn late_to_stop(stop: &CancellationToken, count: &Arc<AtomicU32>) -> impl FnMut() -> Life + Send + use<> {
        let (stop, count) = (stop.clone(), count.clone());
        move || {
            let (stop, count) = (stop.clone(), count.clone());
            Box::pin(async move {
                stop.cancelled().await;
                sleep(Duration::from_millis(20)).await;
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
        }
    }
}
