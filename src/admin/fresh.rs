//! When each publisher was last heard, so that a hung one is noticed.
#![expect(clippy::disallowed_methods, reason = "driver: stamps what is heard")]

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Inputs;

/// The last signs of life of the four publishers.
#[derive(Debug)]
pub(super) struct Fresh {
    start: Instant,
    /// Milliseconds after `start`.
    heard: [AtomicU64; 4],
}

impl Fresh {
    /// All are taken as heard now.
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), heard: Default::default() }
    }

    /// How long ago each publisher was heard, by its name.
    pub(super) fn ages(&self) -> [(&'static str, Duration); 4] {
        let age = |heard: &AtomicU64| {
            self.start.elapsed().saturating_sub(Duration::from_millis(heard.load(Ordering::Relaxed)))
        };
        let [process, neighbors, prefixes, services] = self.heard.each_ref().map(age);
        [("the process", process), ("bgp", neighbors), ("the decision", prefixes), ("health", services)]
    }

    /// Listens for ever; a publisher that is gone is simply not heard any more.
    pub(super) async fn listen(&self, inputs: Inputs) {
        let [process, neighbors, prefixes, services] = &self.heard;
        tokio::join!(
            self.hear(process, inputs.process),
            self.hear(neighbors, inputs.neighbors),
            self.hear(prefixes, inputs.prefixes),
            self.hear(services, inputs.services),
        );
    }

    async fn hear<T>(&self, heard: &AtomicU64, mut receiver: watch::Receiver<T>) {
        while receiver.changed().await.is_ok() {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            heard.store(now, Ordering::Relaxed);
        }
        pending::<()>().await;
    }
}
