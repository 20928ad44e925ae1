//! How long a thread has waited for a processor, as the kernel counts it (/proc/PID/task/TID/schedstat).
#![expect(clippy::disallowed_methods, reason = "driver: reads what the kernel says of a thread")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One worker's waits; of no use until its thread has begun.
#[derive(Debug, Default)]
pub(super) struct Waits {
    stat: OnceLock<File>,
    /// In all, at the last look, in nanoseconds.
    last: AtomicU64,
}

impl Waits {
    /// To be called on the thread. Where the kernel tells nothing, no silence is ever explained.
    pub(super) fn begin(&self) {
        // The link is followed now: the open file stays this thread's, whoever reads it.
        if let Ok(stat) = File::open("/proc/thread-self/schedstat") {
            let _ = self.stat.set(stat);
            self.look();
        }
    }

    /// Begins a new span.
    pub(super) fn look(&self) {
        if let Some(all) = self.all() {
            self.last.store(all, Ordering::Relaxed);
        }
    }

    /// Whether the thread has waited for most of a silence of so many nanoseconds. The span before the last look is not
    /// counted, so that waits of long ago explain nothing.
    pub(super) fn explain(&self, silence: u64) -> bool {
        let waited = self.all().map(|all| all.saturating_sub(self.last.swap(all, Ordering::Relaxed)));
        waited.is_some_and(|waited| waited >= silence / 2)
    }

    fn all(&self) -> Option<u64> {
        let mut text = [0; 96];
        let read = self.stat.get()?.read_at(&mut text, 0).ok()?;
        // On the processor, waiting for one, and how many times.
        str::from_utf8(&text[..read]).ok()?.split_whitespace().nth(1)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_sleeps_does_not_wait_for_a_processor() {
        let waits = Waits::default();
        assert!(!waits.explain(0) || waits.all().is_some());
        waits.begin();
        assert!(waits.all().is_some());
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!waits.explain(200_000_000));
    }
}
