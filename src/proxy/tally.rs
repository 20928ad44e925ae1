//! What services carried: counts that all workers add to, and that nobody needs a lock to read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::end::Kind;
use crate::observe::status::traffic::HistogramStatus;

/// Upper bounds in seconds: 100 µs, and then about threefold up to an hour.
const BOUNDS: [f64; 16] =
    [1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0];

/// Durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// All of it.
    #[must_use]
    pub fn status(&self) -> HistogramStatus {
        HistogramStatus {
            bounds: BOUNDS.to_vec(),
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

/// One service's counts.
#[derive(Debug, Default)]
pub struct Tally {
    pub open: AtomicU32,
    pub connections: AtomicU64,
    pub up: AtomicU64,
    pub down: AtomicU64,
    /// From the accept to the backend's answer.
    pub reach: Histogram,
    /// From the accept to the end.
    pub duration: Histogram,
    ends: [AtomicU64; Kind::ALL.len()],
    /// Further attempts that are left, in hundredths.
    retries: Retries,
}

/// Further attempts that a service may make without any first ones, in hundredths.
const FREE_RETRIES: u32 = 100 * 100;

/// The budget of further attempts: every first one adds to it.
#[derive(Debug)]
struct Retries(AtomicU32);

impl Default for Retries {
    fn default() -> Self {
        Self(AtomicU32::new(FREE_RETRIES))
    }
}

impl Tally {
    /// A first attempt is made: it pays for `percent` of a further one.
    pub fn first_attempt(&self, percent: u8) {
        let left = &self.retries.0;
        // Full, as it is while all is well: nothing to write.
        if left.load(Ordering::Relaxed) < FREE_RETRIES {
            let add = |left: u32| Some((left + u32::from(percent)).min(FREE_RETRIES));
            let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    }

    /// Whether a further attempt may be made; it is paid for then.
    #[must_use]
    pub fn further_attempt(&self) -> bool {
        let pay = |left: u32| left.checked_sub(100);
        self.retries.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }

    /// Counts an end.
    pub fn end(&self, kind: Kind) {
        self.ends[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The ends that occurred, by name.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<String, u64> {
        let counts = Kind::ALL.iter().zip(&self.ends);
        let counts = counts.map(|(kind, count)| (kind.name().to_owned(), count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_find_their_buckets() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 3_600_000_000, 3_600_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let status = histogram.status();
        assert_eq!(status.counts.len(), status.bounds.len() + 1);
        assert_eq!((status.counts[0], status.counts[1]), (2, 1));
        assert_eq!((status.counts[15], status.counts[16]), (1, 1));
        assert!((status.sum - 7_200.000_202).abs() < 1e-9);
    }

    #[test]
    fn ends_are_told_by_name() {
        let tally = Tally::default();
        tally.end(Kind::Finished);
        tally.end(Kind::Drained);
        tally.end(Kind::Drained);
        assert_eq!(tally.ends(), BTreeMap::from([("finished".into(), 1), ("drained".into(), 2)]));
    }
}
