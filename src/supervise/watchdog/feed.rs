//! When systemd is told that the process is alive.

use std::time::{Duration, Instant};

/// It is told at least this often while all is well, however patient it is.
const LONGEST: Duration = Duration::from_secs(1);

/// The rhythm in which systemd's own watchdog is fed.
#[derive(Debug)]
pub struct Feed {
    every: Duration,
    fed: Option<Instant>,
}

impl Feed {
    /// For a systemd that waits this long (`WATCHDOG_USEC`): it advises to tell it twice in that time.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { every: (patience / 2).min(LONGEST), fed: None }
    }

    /// Whether it is to be told now. While not all is well it is told nothing, and at once when it is again.
    pub fn is_due(&mut self, all_well: bool, now: Instant) -> bool {
        let due = all_well && self.fed.is_none_or(|fed| now.saturating_duration_since(fed) >= self.every);
        if due {
            self.fed = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds at which systemd is told, looked at every 25 ms of `ms`, all being well until `well`.
    fn told(patience: u64, ms: u64, well: std::ops::Range<u64>) -> Vec<u64> {
        let mut feed = Feed::new(Duration::from_millis(patience));
        let start = Instant::now();
        let mut looks = (0..ms).step_by(25).collect::<Vec<_>>();
        looks.retain(|&at| feed.is_due(well.contains(&at), start + Duration::from_millis(at)));
        looks
    }

    #[test]
    fn twice_in_its_patience_and_at_least_every_second_while_all_is_well() {
        assert_eq!(told(400, 1_000, 0..1_000), [0, 200, 400, 600, 800]);
        assert_eq!(told(30_000, 3_000, 0..3_000), [0, 1_000, 2_000]);
        assert_eq!(told(400, 1_000, 75..500), [75, 275, 475]);
        assert_eq!(told(400, 1_000, 0..0), Vec::<u64>::new());
    }
}
