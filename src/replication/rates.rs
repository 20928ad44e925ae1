//! How much of each origin is taken in a second: whoever says more is heard later, and nobody else waits for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::version::{MOST_ORIGINS, Origin};

/// Seconds' worth that may come at once.
const BURST: f64 = 4.0;

/// What each origin may still say: rows, or packets.
#[derive(Debug)]
pub struct Rates {
    /// In a second.
    rate: f64,
    origins: BTreeMap<Origin, Bucket>,
}

/// Under zero, if more was taken at once than there was room for.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rates {
    #[must_use]
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1) as f64, origins: BTreeMap::new() }
    }

    pub fn limit(&mut self, rate: u64) {
        self.rate = rate.max(1) as f64;
    }

    /// So much of an origin was taken.
    pub fn handle_taken(&mut self, origin: &Origin, count: usize, now: Instant) {
        if count == 0 {
            return;
        }
        if self.origins.len() >= MOST_ORIGINS {
            self.forget(now);
        }
        let full = BURST * self.rate;
        let bucket = self.origins.entry(origin.clone()).or_insert(Bucket { left: full, at: now });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.rate;
        *bucket = Bucket { left: (bucket.left + gained).min(full) - count as f64, at: now };
    }

    /// How long an origin is not heard. None: it has room.
    #[must_use]
    pub fn wait(&self, origin: &Origin, now: Instant) -> Option<Duration> {
        let bucket = self.origins.get(origin)?;
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.rate;
        let lacks = -(bucket.left + gained);
        (lacks >= 0.0).then(|| Duration::from_secs_f64(lacks / self.rate))
    }

    /// Those that have all of their room.
    fn forget(&mut self, now: Instant) {
        let rate = self.rate;
        self.origins.retain(|_, bucket| {
            bucket.left + now.saturating_duration_since(bucket.at).as_secs_f64() * rate < BURST * rate
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_writes_too_fast_waits_and_nobody_else() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let origin = |name: &str| Origin::new(name).unwrap();
        let (fast, slow) = (origin("fast"), origin("slow"));
        let mut rates = Rates::new(100);
        rates.handle_taken(&fast, 399, now);
        rates.handle_taken(&slow, 10, now);
        assert_eq!(rates.wait(&fast, now), None);
        rates.handle_taken(&fast, 201, now);
        assert_eq!(rates.wait(&fast, now), Some(2 * second));
        assert_eq!(rates.wait(&fast, now + second), Some(second));
        assert_eq!(rates.wait(&fast, now + 3 * second), None);
        assert_eq!(rates.wait(&slow, now), None);
        // A pause gives no more than what may come at once.
        rates.handle_taken(&fast, 400, now + 1_000 * second);
        assert_eq!(rates.wait(&fast, now + 1_000 * second), Some(Duration::ZERO));
        // The clock of this machine does not go backwards; if it did, nobody would be locked out.
        assert!(rates.wait(&fast, now).is_some_and(|wait| wait <= second));
    }
}
