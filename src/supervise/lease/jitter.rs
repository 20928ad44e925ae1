//! By how much renewals come late: a histogram of the last minutes, in fixed space.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What is told of it; the last is what the lease follows.
pub const QUANTILES: [f64; 3] = [0.5, 0.99, 0.9999];

/// The window is two of these: what is older than both is forgotten.
const HALF: Duration = Duration::from_secs(150);
/// Buckets in each power of two: a bucket is a quarter of its lower bound wide at most.
const STEPS: u64 = 4;
const STEPS_LOG: u32 = STEPS.ilog2();
/// The last bucket takes everything from about 4 s on, in microseconds.
const BUCKETS: usize = 84;

/// The jitter of renewals over the last 150 to 300 s. One writer, any number of readers.
#[derive(Debug, Default)]
pub struct Jitter {
    halves: [Histogram; 2],
    /// Which of them is written.
    second: AtomicBool,
    /// When it was begun, in nanoseconds of the writer's clock.
    begun: AtomicU64,
}

impl Jitter {
    /// A renewal came so much later than it was due; `at` on a clock that never goes back.
    pub fn record(&self, late: Duration, at: Duration) {
        let at = at.as_nanos() as u64;
        if at.saturating_sub(self.begun.load(Ordering::Relaxed)) >= HALF.as_nanos() as u64 {
            self.begun.store(at, Ordering::Relaxed);
            let second = !self.second.fetch_not(Ordering::Relaxed);
            self.halves[usize::from(second)].clear();
        }
        self.halves[usize::from(self.second.load(Ordering::Relaxed))].add(late);
    }

    /// So much of all renewals came no later than this; zero without any. Never less than the truth, and less than
    /// a bucket more. With fewer than 10,000 renewals the p99.99 is the largest of them.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let [one, other] = &self.halves;
        let counts = std::array::from_fn(|bucket| one.count(bucket) + other.count(bucket));
        quantile_of(&counts, quantile)
    }
}

#[derive(Debug)]
struct Histogram([AtomicU32; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Histogram {
    fn add(&self, late: Duration) {
        self.0[bucket_of(late)].fetch_add(1, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.0.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn count(&self, bucket: usize) -> u64 {
        self.0[bucket].load(Ordering::Relaxed).into()
    }
}

/// The upper bound of the bucket in which the sample of that rank is.
fn quantile_of(counts: &[u64; BUCKETS], quantile: f64) -> Duration {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return Duration::ZERO;
    }
    // How many may be worse. Rounded down: of fewer than 10,000 none may be worse than the p99.99. The small
    // addition is for 1 - 0.9999, which is a little less than 0.0001 here.
    let worse = ((1.0 - quantile) * total as f64 + 1e-6).floor() as u64;
    let mut left = worse.min(total - 1);
    for (bucket, count) in counts.iter().enumerate().rev() {
        if *count > left {
            return upper_bound(bucket);
        }
        left -= count;
    }
    Duration::ZERO
}

/// Microseconds, rounded up: up to four each has its own bucket; then four for each power of two.
fn bucket_of(late: Duration) -> usize {
    let us = u64::try_from(late.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    if us < STEPS {
        return us as usize;
    }
    let power = us.ilog2();
    let step = (us >> (power - STEPS_LOG)) & (STEPS - 1);
    let bucket = STEPS * u64::from(power - STEPS_LOG + 1) + step;
    (bucket as usize).min(BUCKETS - 1)
}

/// The largest that a bucket takes; the last takes more than it says.
fn upper_bound(bucket: usize) -> Duration {
    let (bucket, steps) = (bucket as u64, STEPS);
    if bucket < steps {
        return Duration::from_micros(bucket);
    }
    let power = bucket / steps - 1;
    let next = (steps + bucket % steps + 1) << power;
    Duration::from_micros(next - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn buckets_meet_without_a_gap() {
        let mut before = None;
        for us in 0..100_000 {
            let bucket = bucket_of(micros(us));
            assert!(upper_bound(bucket) >= micros(us), "{us}");
            match before {
                Some(last) if last == bucket => {}
                // The first of a bucket is one more than the last of the one before.
                Some(last) => assert_eq!((bucket, upper_bound(last)), (last + 1, micros(us - 1))),
                None => assert_eq!(bucket, 0),
            }
            before = Some(bucket);
        }
        assert_eq!(bucket_of(Duration::from_secs(3_600)), BUCKETS - 1);
        assert!(upper_bound(BUCKETS - 1) > Duration::from_secs(4));
        assert_eq!(bucket_of(Duration::from_nanos(1)), 1, "rounded up");
    }

    #[test]
    fn one_in_ten_thousand_may_be_worse_and_no_more() {
        let table = [
            // Ordinary ones, bad ones, and whether the p99.99 is a bad one.
            (0, 0, false),
            (0, 1, true),
            (1, 1, true),
            (9_998, 1, true),
            (9_999, 1, false),
            (9_998, 2, true),
            (19_998, 2, false),
        ];
        for (good, bad, is_bad) in table {
            let jitter = Jitter::default();
            (0..good).for_each(|_| jitter.record(micros(100), Duration::ZERO));
            (0..bad).for_each(|_| jitter.record(micros(50_000), Duration::ZERO));
            assert_eq!(jitter.quantile(0.9999) >= micros(50_000), is_bad, "{good} {bad}");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let jitter = Jitter::default();
        jitter.record(micros(9_000), Duration::from_secs(149));
        for (at, is_there) in [(150, true), (299, true), (300, false), (301, false)] {
            jitter.record(micros(1), Duration::from_secs(at));
            assert_eq!(jitter.quantile(0.9999) >= micros(9_000), is_there, "at {at} s");
        }
        // After a long rest the half before is as old as it gets; the next one ends it.
        jitter.record(micros(9_000), Duration::from_secs(10_000));
        jitter.record(micros(1), Duration::from_secs(10_150));
        jitter.record(micros(1), Duration::from_secs(10_300));
        assert_eq!(jitter.quantile(0.9999), micros(1));
    }

    proptest! {
        /// Never under the true one, and over it by less than a bucket.
        #[test]
        fn an_estimate_is_within_a_bucket_of_the_truth(
            samples in prop::collection::vec(prop_oneof![0..100u64, 0..4_000_000_000u64], 1..400),
            copies in 1..60usize,
            which in 0..QUANTILES.len(),
        ) {
            let jitter = Jitter::default();
            let mut all = Vec::new();
            for _ in 0..copies {
                for ns in &samples {
                    jitter.record(Duration::from_nanos(*ns), Duration::ZERO);
                    all.push(*ns);
                }
            }
            all.sort_unstable();
            let worse = ((1.0 - QUANTILES[which]) * all.len() as f64 + 1e-6).floor() as usize;
            let truth = Duration::from_nanos(all[all.len() - 1 - worse.min(all.len() - 1)]);
            let estimate = jitter.quantile(QUANTILES[which]);
            prop_assert!(estimate >= truth, "{estimate:?} is under {truth:?}");
            prop_assert!(estimate <= truth * 5 / 4 + micros(1), "{estimate:?} is far over {truth:?}");
        }
    }
}
