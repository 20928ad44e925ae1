//! How many lines of one kind the log takes: a few in a minute, and a count of the others.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// The lines of one kind: whoever can cause one may cause a million, and must not fill the disk.
#[derive(Debug, Clone)]
pub struct Rate {
    most: u32,
    since: Option<Instant>,
    written: u32,
    unwritten: u64,
}

impl Rate {
    /// At most `most` lines in a minute.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most, since: None, written: 0, unwritten: 0 }
    }

    /// Whether a line may be written now. A line that may not is counted.
    pub fn admit(&mut self, now: Instant) -> bool {
        if self.is_over(now) {
            self.since = Some(now);
            self.written = 0;
        }
        let admitted = self.written < self.most;
        if admitted {
            self.written += 1;
        } else {
            self.unwritten += 1;
        }
        admitted
    }

    /// How many lines were not written in a minute that is over by now; told once.
    pub fn poll(&mut self, now: Instant) -> Option<u64> {
        if self.unwritten == 0 || !self.is_over(now) {
            return None;
        }
        Some(std::mem::take(&mut self.unwritten))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_a_count() {
        let begin = Instant::now();
        let mut rate = Rate::new(3);
        let written = (0..1000).filter(|ms| rate.admit(begin + Duration::from_millis(*ms))).count();
        assert_eq!(written, 3);
        assert_eq!(rate.poll(begin + Duration::from_secs(59)), None);
        let later = begin + Duration::from_secs(60);
        assert_eq!(rate.poll(later), Some(997));
        assert_eq!(rate.poll(later), None);
        assert!(rate.admit(later));
    }

    #[test]
    fn few_lines_are_all_written() {
        let begin = Instant::now();
        let mut rate = Rate::new(3);
        for minute in 0..100 {
            assert!(rate.admit(begin + Duration::from_secs(60 * minute / 3)));
            assert_eq!(rate.poll(begin + Duration::from_secs(60 * minute / 3)), None);
        }
    }

    proptest! {
        /// Every line is written or told of, whenever and however often the driver asks.
        #[test]
        fn no_line_is_forgotten(steps in proptest::collection::vec((0u64..40_000, any::<bool>()), 0..300)) {
            let mut now = Instant::now();
            let mut rate = Rate::new(2);
            let (mut lines, mut known) = (0, 0);
            for (ms, ask) in steps {
                now += Duration::from_millis(ms);
                if ask {
                    known += rate.poll(now).unwrap_or(0);
                } else {
                    lines += 1;
                    known += u64::from(rate.admit(now));
                }
            }
            known += rate.poll(now + WINDOW).unwrap_or(0);
            prop_assert_eq!(known, lines);
        }
    }
}
