//! Which ends of connections are logged: a sample of the orderly ones, all others, and never more than a rate.

use std::cell::Cell;
use std::time::Instant;

use crate::config::proxy::AccessLog;

/// One worker's share of the access log.
#[derive(Debug)]
pub(super) struct Sampler {
    orderly: Cell<u32>,
    /// Lines that may be written now, in thousandths.
    credit: Cell<u64>,
    filled: Cell<Instant>,
}

impl Sampler {
    pub(super) fn new(now: Instant) -> Self {
        Self { orderly: Cell::new(0), credit: Cell::new(0), filled: Cell::new(now) }
    }

    /// Whether this end is one to be logged; None when it is, but the rate is used up.
    /// `workers` share the rate.
    pub(super) fn wants(
        &self,
        log: &AccessLog,
        is_orderly: bool,
        workers: u32,
        now: Instant,
    ) -> Option<bool> {
        if log.rate == 0 {
            return Some(false);
        }
        if is_orderly {
            if log.every == 0 {
                return Some(false);
            }
            let count = self.orderly.get() + 1;
            self.orderly.set(count % log.every);
            if count < log.every {
                return Some(false);
            }
        }
        // At least one line a second for each worker.
        let rate = u64::from((log.rate / workers.max(1)).max(1));
        let passed = now.saturating_duration_since(self.filled.replace(now)).as_millis() as u64;
        let credit = self.credit.get().saturating_add(passed.saturating_mul(rate)).min(rate * 1000);
        if credit < 1000 {
            self.credit.set(credit);
            return None;
        }
        self.credit.set(credit - 1000);
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_in_so_many_orderly_ends_and_all_others() {
        let start = Instant::now();
        let sampler = Sampler::new(start);
        let now = start + Duration::from_secs(1);
        let log = AccessLog { every: 3, rate: 1_000 };
        let orderly = (0..9).filter(|_| sampler.wants(&log, true, 1, now) == Some(true)).count();
        assert_eq!(orderly, 3);
        assert!((0..9).all(|_| sampler.wants(&log, false, 1, now) == Some(true)));
        assert_eq!(sampler.wants(&AccessLog { every: 0, rate: 1 }, true, 1, now), Some(false));
        assert_eq!(sampler.wants(&AccessLog { every: 1, rate: 0 }, false, 1, now), Some(false));
    }

    #[test]
    fn never_more_than_the_rate() {
        let start = Instant::now();
        let sampler = Sampler::new(start);
        let log = AccessLog { every: 1, rate: 10 };
        let mut logged = 0;
        for ms in 0..10_000 {
            let now = start + Duration::from_millis(ms);
            logged += u32::from(sampler.wants(&log, false, 2, now) == Some(true));
        }
        assert!((45..=56).contains(&logged), "{logged}");
    }
}
