//! When the view and the status are published.
//!
//! The view goes out the moment it changes, and otherwise often enough to show that the prober lives.
//! The status is for people: it is costly with thousands of backends, so changes that come in a burst
//! share one publication.

use std::time::{Duration, Instant};

/// The longest time without a new view.
const VIEW_AT_MOST: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_millis(250);
/// Least time between two statuses, for each backend in them: about ten times what building one costs.
const STATUS_GAP_PER_BACKEND: Duration = Duration::from_micros(10);

/// What the roster has to tell since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// A service's position, weight, proof or cause.
    pub view: bool,
    /// A backend's verdict.
    pub status: bool,
}

/// What to publish now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Publish {
    pub(super) view: bool,
    pub(super) status: bool,
}

#[derive(Debug)]
pub(super) struct Pace {
    view_every: Duration,
    status_gap: Duration,
    view_at: Instant,
    status_at: Instant,
    last_status: Option<Instant>,
}

impl Pace {
    pub(super) fn new(max_age: Duration, backends: usize, now: Instant) -> Self {
        let mut pace = Self {
            view_every: Duration::ZERO,
            status_gap: Duration::ZERO,
            view_at: now,
            status_at: now,
            last_status: None,
        };
        pace.handle_plan(max_age, backends);
        pace
    }

    /// Takes the bounds of a new plan: views come four times within `max_age`.
    pub(super) fn handle_plan(&mut self, max_age: Duration, backends: usize) {
        self.view_every = (max_age / 4).min(VIEW_AT_MOST);
        self.status_gap = STATUS_GAP_PER_BACKEND.saturating_mul(backends as u32);
    }

    /// Whether the view will be due by itself: the time to look for starved checks first.
    pub(super) fn is_view_due(&self, now: Instant) -> bool {
        now >= self.view_at
    }

    /// Takes the changes and says what to publish; the caller then does.
    pub(super) fn poll_publish(&mut self, changes: Changes, now: Instant) -> Publish {
        if changes.view || changes.status {
            let soonest = self.last_status.map_or(now, |last| last + self.status_gap);
            self.status_at = self.status_at.min(soonest.max(now));
        }
        let publish = Publish { view: changes.view || now >= self.view_at, status: now >= self.status_at };
        if publish.view {
            self.view_at = now + self.view_every;
        }
        if publish.status {
            self.status_at = now + STATUS_EVERY.max(self.status_gap);
            self.last_status = Some(now);
        }
        publish
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.view_at.min(self.status_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGED: Changes = Changes { view: true, status: true };
    const VERDICT: Changes = Changes { view: false, status: true };
    const NOTHING: Changes = Changes { view: false, status: false };

    #[test]
    fn a_change_is_published_at_once_and_silence_is_broken_in_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(Duration::from_millis(400), 1, start);
        assert_eq!(pace.poll_publish(NOTHING, start), Publish { view: true, status: true });
        assert_eq!(pace.poll_publish(NOTHING, at(50)), Publish::default());
        assert_eq!(pace.poll_publish(CHANGED, at(50)), Publish { view: true, status: true });
        assert_eq!(pace.next_deadline(), at(150), "a quarter of max_age after the last view");
        assert_eq!(pace.poll_publish(NOTHING, at(150)), Publish { view: true, status: false });
        assert_eq!(pace.poll_publish(NOTHING, at(300)), Publish { view: true, status: true });
    }

    #[test]
    fn a_burst_of_verdicts_shares_one_status_but_never_delays_a_view() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(3), 2000, start);
        pace.poll_publish(NOTHING, start);
        let mut statuses = 0;
        for micros in 0..20_000 {
            let publish = pace.poll_publish(CHANGED, start + Duration::from_micros(micros));
            assert!(publish.view);
            statuses += u32::from(publish.status);
        }
        assert_eq!(statuses, 0);
        let later = start + Duration::from_millis(20);
        assert_eq!(pace.next_deadline(), later);
        assert!(pace.poll_publish(VERDICT, later).status);
    }
}
