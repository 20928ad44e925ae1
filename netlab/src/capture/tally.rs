//! Arrival times of traffic, kept compactly: what arrived after a given moment, and when the last of it.

use crate::moment::Moment;

/// Arrivals kept with their time: 25 minutes at 5,000 a second, 64 MB.
const MAX_KEPT: usize = 8_000_000;

/// Arrivals in the order in which they were taken.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    times: Vec<Moment>,
    /// Arrivals beyond what is kept.
    uncounted: u64,
    last: Option<Moment>,
}

impl Tally {
    pub fn add(&mut self, at: Moment) {
        self.last = self.last.max(Some(at));
        if self.times.len() < MAX_KEPT {
            self.times.push(at);
        } else {
            self.uncounted += 1;
        }
    }

    pub fn total(&self) -> u64 {
        self.times.len() as u64 + self.uncounted
    }

    /// Arrivals in `[after, before)`; of those whose time was kept.
    pub fn count(&self, after: Moment, before: Moment) -> u64 {
        self.times.iter().filter(|at| (after..before).contains(*at)).count() as u64
    }

    /// The last arrival at `after` or later, before `before`.
    pub fn last(&self, after: Moment, before: Moment) -> Option<Moment> {
        self.times.iter().rev().filter(|at| (after..before).contains(*at)).max().copied()
    }

    /// Whether arrival times had to be left out: then only `total` is whole.
    pub fn is_whole(&self) -> bool {
        self.uncounted == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_finds_the_last_within_bounds() {
        let mut tally = Tally::default();
        for at in [10, 30, 20, 50] {
            tally.add(Moment(at));
        }
        assert_eq!(tally.total(), 4);
        assert_eq!(tally.count(Moment(20), Moment(50)), 2);
        assert_eq!(tally.last(Moment(20), Moment(50)), Some(Moment(30)));
        assert_eq!(tally.last(Moment(51), Moment::MAX), None);
        assert!(tally.is_whole());
    }
}
