//! When the next probe of a backend starts.

use std::time::{Duration, Instant};

use crate::config::services::Check;

/// Up to this many backends in the plan, first probes start at once: a small POP is proven sooner, and
/// its burst is small.
const START_AT_ONCE: usize = 64;
/// First probes of a larger plan are spread over this, or over the interval if it is shorter.
const START_SPREAD: Duration = Duration::from_secs(1);

/// How soon the next probe is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tempo {
    /// `interval` after the start of the last, give or take a tenth.
    Normal,
    /// `fast_interval` after the start of the last.
    Fast,
    /// As soon as there is a free slot, before all others.
    AtOnce,
}

/// When the next probe starts, of a check whose last one ran from `started` to `ended`. Never before
/// `ended`: a probe does not overlap the next of its kind.
pub(super) fn next_start(
    started: Instant,
    ended: Instant,
    check: &Check,
    tempo: Tempo,
    dice: &mut Dice,
) -> Instant {
    let wait = match tempo {
        Tempo::Normal => dice.jitter(check.interval),
        Tempo::Fast => check.fast_interval,
        Tempo::AtOnce => Duration::ZERO,
    };
    (started + wait).max(ended)
}

/// When the first probe of a backend starts, in a plan of so many backends. The place in the spread
/// comes from the names, so that a POP's burst looks the same after each start.
pub(super) fn first_start(
    now: Instant,
    service: &str,
    backend: &str,
    interval: Duration,
    backends: usize,
) -> Instant {
    if backends <= START_AT_ONCE {
        return now;
    }
    let spread = interval.min(START_SPREAD);
    let share = (fnv1a(service, backend) >> 32) as u32;
    now + scale(spread, share)
}

/// A stream of pseudorandom numbers (xorshift64*, by Marsaglia and Vigna), seeded from outside.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self(seed.max(1))
    }

    /// A length between nine and eleven tenths of `interval`.
    fn jitter(&mut self, interval: Duration) -> Duration {
        interval - interval / 10 + scale(interval / 5, (self.next() >> 32) as u32)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// `length` times `share` / 2³².
fn scale(length: Duration, share: u32) -> Duration {
    Duration::from_nanos(((length.as_nanos() * u128::from(share)) >> 32) as u64)
}

/// FNV-1a over both names, then mixed, because the high bits of plain FNV hardly differ among short names.
fn fnv1a(service: &str, backend: &str) -> u64 {
    let bytes = service.bytes().chain([b'/']).chain(backend.bytes());
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::services::Probe;

    fn check(interval: u64, fast: u64) -> Check {
        Check {
            probe: Probe::Tcp,
            interval: Duration::from_millis(interval),
            fast_interval: Duration::from_millis(fast),
            timeout: Duration::from_millis(15),
            rise: 2,
            fall: 3,
            source: None,
            port: None,
            held_connection: true,
        }
    }

    #[test]
    fn fast_is_exact_and_nothing_overlaps() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut dice = Dice::new(1);
        let check = check(1000, 100);
        assert_eq!(next_start(start, after(3), &check, Tempo::Fast, &mut dice), after(100));
        assert_eq!(next_start(start, after(500), &check, Tempo::Fast, &mut dice), after(500));
        assert_eq!(next_start(start, after(3), &check, Tempo::AtOnce, &mut dice), after(3));
        assert_eq!(next_start(start, after(5000), &check, Tempo::Normal, &mut dice), after(5000));
    }

    #[test]
    fn a_small_plan_starts_at_once_and_a_large_one_is_spread() {
        let now = Instant::now();
        let interval = Duration::from_secs(30);
        assert_eq!(first_start(now, "web", "a", interval, 64), now);
        let mut quarters = [0; 4];
        for backend in 0..1000 {
            let at = first_start(now, "web", &format!("b{backend}"), interval, 1000) - now;
            assert!(at < START_SPREAD);
            quarters[(at.as_millis() / 250) as usize] += 1;
        }
        assert!(quarters.iter().all(|&count| count > 150), "{quarters:?}");
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_tenth(seed: u64, interval in 5u64..3_600_000) {
            let start = Instant::now();
            let check = check(interval, 5);
            let mut dice = Dice::new(seed);
            for _ in 0..20 {
                let wait = next_start(start, start, &check, Tempo::Normal, &mut dice) - start;
                prop_assert!(wait >= check.interval.mul_f64(0.899) && wait <= check.interval.mul_f64(1.101));
            }
        }
    }
}
