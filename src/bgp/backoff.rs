//! How long a neighbor is left alone after a failure: doubling, bounded, with jitter.

use std::time::Duration;

/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(120);
/// Doublings after which the wait stops growing: 16 times the base.
const MOST_DOUBLINGS: u32 = 4;
/// The same for a neighbor that just does not answer, which may be a router that boots: 4 times.
const MOST_SOFT_DOUBLINGS: u32 = 2;

/// The idle hold of one neighbor (RFC 4271 §8.1.1, DampPeerOscillations).
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    failures: u32,
    misses: u32,
    jitter: Jitter,
}

impl Backoff {
    /// `base` is the first wait; `seed` makes neighbors differ from one another.
    #[must_use]
    pub fn new(base: Duration, seed: u64) -> Self {
        Self { base, failures: 0, misses: 0, jitter: Jitter::new(seed) }
    }

    /// Counts a failed session and returns how long to wait before the next attempt.
    pub fn fail(&mut self) -> Duration {
        self.misses = 0;
        let wait = self.wait(self.failures.min(MOST_DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Counts a connection that did not come about, where nobody did anything wrong.
    pub fn miss(&mut self) -> Duration {
        let wait = self.wait(self.misses.min(MOST_SOFT_DOUBLINGS));
        self.misses = self.misses.saturating_add(1);
        wait
    }

    fn wait(&mut self, doublings: u32) -> Duration {
        let doubled = self.base * 2u32.pow(doublings);
        self.jitter.shorten(doubled.min(LONGEST))
    }

    /// Forgets the failures: the neighbor has proven itself.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.misses = 0;
    }

    /// A timer's jitter from the same source.
    pub fn shorten(&mut self, wait: Duration) -> Duration {
        self.jitter.shorten(wait)
    }
}

/// Multiplies timers by a factor between 0.75 and 1 (RFC 4271 §10), from a xorshift generator:
/// a seed in, the same waits out.
#[derive(Debug, Clone)]
struct Jitter(u64);

impl Jitter {
    fn new(seed: u64) -> Self {
        // A xorshift generator stands still at 0.
        Self(seed | 1)
    }

    fn shorten(&mut self, wait: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let part = (self.0 >> 40) as f64 / f64::from(1u32 << 24);
        wait.mul_f64(0.75 + 0.25 * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_stay_within_the_jitter() {
        let mut backoff = Backoff::new(Duration::from_secs(5), 42);
        for expected in [5, 10, 20, 40, 80, 80, 80] {
            let full = Duration::from_secs(expected);
            let wait = backoff.fail();
            assert!(wait <= full && wait >= full.mul_f64(0.75), "{wait:?} for {full:?}");
        }
        backoff.reset();
        assert!(backoff.fail() <= Duration::from_secs(5));
    }

    #[test]
    fn a_long_base_is_bounded() {
        let mut backoff = Backoff::new(Duration::from_secs(100), 7);
        backoff.fail();
        assert!(backoff.fail() <= LONGEST);
    }
}
