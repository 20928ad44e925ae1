//! When the next handshake is tried: for ever, never more than five seconds after the last.

use std::time::{Duration, Instant};

/// The initiator of a session renews it at this age (whitepaper §6.2, REKEY_AFTER_TIME).
const RENEW: Duration = Duration::from_secs(120);
/// The responder does so if the initiator has not; before REJECT_AFTER_TIME, with room for a few attempts.
const RENEW_OTHER: Duration = Duration::from_secs(150);
/// Between attempts: the first is soon, to get past one lost datagram, and the last is REKEY_TIMEOUT.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Pace {
    /// The earliest moment of the next attempt, and the wait after that one.
    next: Option<Instant>,
    wait: Duration,
    /// When the session was made, and whether by us.
    made: Option<(Instant, bool)>,
    /// Differs between the two ends, so that they do not stay in step.
    seed: u32,
    /// Somebody doubts the session: it is renewed whatever its age.
    doubted: bool,
    /// An attempt of ours is open.
    pub(super) open: bool,
}

impl Pace {
    pub(super) fn new(seed: u32) -> Self {
        Self { next: None, wait: FIRST, made: None, seed: seed | 1, doubted: false, open: false }
    }

    /// Whether a handshake should begin now. `alive`: there is a session to send on.
    pub(super) fn is_due(&self, now: Instant, alive: bool) -> bool {
        let rested = self.next.is_none_or(|next| now >= next);
        let due = self.doubted
            || !self.made.is_some_and(|(made, ours)| {
                let age = now.saturating_duration_since(made);
                alive && age < if ours { RENEW } else { RENEW_OTHER }
            });
        rested && due
    }

    /// An initiation goes out.
    pub(super) fn tried(&mut self, now: Instant) {
        // xorshift: a jitter needs no more.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        let jitter = self.wait * (self.seed % 256) / 1024;
        self.next = Some(now + (self.wait - jitter));
        self.wait = (self.wait * 2).min(MOST);
        self.doubted = false;
        self.open = true;
    }

    /// What held the last attempt up is settled: the next need not wait.
    pub(super) fn soon(&mut self, now: Instant) {
        let soon = now + Duration::from_millis(250);
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
    }

    /// The session is in doubt.
    pub(super) fn again(&mut self, now: Instant) {
        self.doubted = true;
        self.soon(now);
    }

    /// A session was made.
    pub(super) fn made(&mut self, now: Instant, ours: bool) {
        self.made = Some((now, ours));
        self.wait = FIRST;
        self.next = None;
        self.doubted = false;
        self.open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_for_ever_and_never_after_more_than_five_seconds() {
        let start = Instant::now();
        let mut pace = Pace::new(7);
        let mut last = start;
        let mut attempts = 0;
        for ms in (0..3_600_000).step_by(100) {
            let now = start + Duration::from_millis(ms);
            if pace.is_due(now, false) {
                assert!(now - last <= MOST + Duration::from_millis(100), "{:?}", now - last);
                pace.tried(now);
                (last, attempts) = (now, attempts + 1);
            }
        }
        assert!((720..=1000).contains(&attempts), "{attempts}");
    }

    #[test]
    fn a_session_is_renewed_in_time() {
        let start = Instant::now();
        // ours, alive, age, due
        for (ours, alive, age, due) in [
            (true, true, 0, false),
            (true, true, 119, false),
            (true, true, 120, true),
            (false, true, 149, false),
            (false, true, 150, true),
            (true, false, 1, true),
        ] {
            let mut pace = Pace::new(1);
            pace.tried(start);
            pace.made(start, ours);
            assert_eq!(pace.is_due(start + Duration::from_secs(age), alive), due, "{ours} {alive} {age}");
        }
    }
}
