//! Damping of our own announcements: down at once, up again only after proof that grows with every failure.

use std::time::{Duration, Instant};

use super::decide::State;
use crate::config::anycast::Damping;

/// The history of one prefix, as far as it matters for its next announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damper {
    /// What the rules allow, as far as damping lets it through.
    level: State,
    /// Failures not yet forgiven, as of `struck_at`.
    strikes: u32,
    struck_at: Option<Instant>,
    rising: Option<Rising>,
}

/// The rules allow more than the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rising {
    since: Instant,
    /// The least they have allowed since then.
    floor: State,
}

/// Why the level is lower than what the rules allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dwell {
    /// Failures not yet forgiven.
    pub strikes: u32,
    /// How long the services must stay up without a break.
    pub length: Duration,
    /// When that will have been so.
    pub until: Instant,
}

impl Default for Damper {
    fn default() -> Self {
        Self { level: State::Withdrawn, strikes: 0, struck_at: None, rising: None }
    }
}

impl Damper {
    /// What damping lets through.
    #[must_use]
    pub fn level(&self) -> State {
        self.level
    }

    /// Takes what the rules allow now. Lower is taken at once, and is a strike if it was `visible` to
    /// neighbors; higher only after the dwell. Whatever breaks off before that is a strike too, but one for
    /// each dwell at most: what has flapped for a while, seen or unseen, must hold for about as long. Without
    /// a policy everything is taken at once.
    pub fn take(
        &mut self,
        policy: Option<&Damping>,
        allowed: State,
        visible: bool,
        now: Instant,
    ) -> Option<Dwell> {
        if allowed <= self.level {
            let broke_off = self.rising.take().is_some() && policy.is_some_and(|it| self.has_dwelt(it, now));
            if allowed < self.level && visible || broke_off {
                self.strikes = policy.map_or(0, |policy| self.strikes_left(policy, now).saturating_add(1));
                self.struck_at = Some(now);
            }
            self.level = allowed;
            return None;
        }
        let dwell = policy.and_then(|policy| Some((policy, self.dwell(policy, now)?)));
        let Some((policy, (strikes, length))) = dwell else {
            self.rising = None;
            self.level = allowed;
            return None;
        };
        let mut rising = self.rising.unwrap_or(Rising { since: now, floor: allowed });
        rising.floor = rising.floor.min(allowed);
        if now.saturating_duration_since(rising.since) >= length {
            self.level = rising.floor;
            if allowed == rising.floor {
                self.rising = None;
                return None;
            }
            // It was less for a part of the time: the rest is proven from here on.
            rising = Rising { since: now, floor: allowed };
        }
        self.rising = Some(rising);
        Some(Dwell { strikes, length, until: self.risen_at(policy, rising.since, now) })
    }

    /// Failures not yet forgiven, and how long an announcement would have to wait for proof.
    #[must_use]
    pub fn dwell(&self, policy: &Damping, now: Instant) -> Option<(u32, Duration)> {
        let strikes = self.strikes_left(policy, now);
        let doublings = strikes.checked_sub(1)?.min(31);
        Some((strikes, policy.min_up.saturating_mul(1 << doublings).min(policy.max_dwell)))
    }

    /// Whether the last strike is a whole dwell ago.
    fn has_dwelt(&self, policy: &Damping, now: Instant) -> bool {
        let dwell = self.dwell(policy, now).map(|(_, length)| length);
        dwell.zip(self.struck_at).is_some_and(|(dwell, at)| now.saturating_duration_since(at) >= dwell)
    }

    /// When the dwell of what rises `since` then will be over: what is forgiven meanwhile shortens it.
    fn risen_at(&self, policy: &Damping, since: Instant, now: Instant) -> Instant {
        let mut at = now;
        while let Some((_, length)) = self.dwell(policy, at)
            && at < since + length
        {
            at = self.forgiven_at(policy, at).map_or(since + length, |next| next.min(since + length));
        }
        at
    }

    /// When the next strike after `at` will be forgiven.
    fn forgiven_at(&self, policy: &Damping, at: Instant) -> Option<Instant> {
        let struck_at = self.struck_at?;
        let forgiven = at.saturating_duration_since(struck_at).as_nanos() / policy.decay.as_nanos().max(1);
        Some(struck_at + policy.decay.saturating_mul(u32::try_from(forgiven + 1).ok()?))
    }

    /// One strike is forgiven with each `decay` since the last one.
    fn strikes_left(&self, policy: &Damping, now: Instant) -> u32 {
        // More strikes than the longest dwell needs would only delay forgiveness.
        let longest = policy.max_dwell.as_nanos().div_ceil(policy.min_up.as_nanos().max(1));
        let most = longest.max(1).next_power_of_two().ilog2() + 1;
        let Some(struck_at) = self.struck_at else { return 0 };
        let peace = now.saturating_duration_since(struck_at);
        let forgiven = peace.as_nanos() / policy.decay.as_nanos().max(1);
        self.strikes.min(most).saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Damping = Damping {
        min_up: Duration::from_secs(1),
        max_dwell: Duration::from_secs(60),
        decay: Duration::from_secs(600),
    };

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn the_first_announcement_waits_for_nothing_and_a_failure_is_told_at_once() {
        let now = Instant::now();
        let mut damper = Damper::default();
        assert_eq!(damper.take(Some(&POLICY), State::Announced, false, now), None);
        assert_eq!(damper.level(), State::Announced);
        assert_eq!(damper.take(Some(&POLICY), State::Withdrawn, true, now), None);
        assert_eq!(damper.level(), State::Withdrawn);
    }

    #[test]
    fn each_failure_doubles_the_dwell_up_to_its_bound_and_peace_halves_it() {
        let mut now = Instant::now();
        let mut damper = Damper::default();
        let mut seen = Vec::new();
        for _ in 0..9 {
            damper.take(Some(&POLICY), State::Announced, false, now);
            now += seconds(100);
            damper.take(Some(&POLICY), State::Announced, true, now);
            assert_eq!(damper.level(), State::Announced);
            damper.take(Some(&POLICY), State::Withdrawn, true, now);
            seen.push(damper.dwell(&POLICY, now).unwrap().1.as_secs());
        }
        // 100 s between failures are no peace.
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let dwell = |later| damper.dwell(&POLICY, now + seconds(later)).map(|(_, length)| length.as_secs());
        assert_eq!(dwell(0), Some(60));
        assert_eq!([dwell(1200), dwell(1800)], [Some(16), Some(8)]);
        assert_eq!(dwell(600 * 20), None);
    }

    #[test]
    fn a_break_begins_the_proof_anew() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut damper = Damper::default();
        damper.take(Some(&POLICY), State::Announced, false, at(0));
        damper.take(Some(&POLICY), State::Withdrawn, true, at(0));
        let dwell = damper.take(Some(&POLICY), State::Announced, false, at(100)).unwrap();
        assert_eq!((dwell.strikes, dwell.until), (1, at(1100)));
        damper.take(Some(&POLICY), State::Withdrawn, false, at(900));
        assert!(damper.take(Some(&POLICY), State::Announced, false, at(1100)).is_some());
        assert!(damper.take(Some(&POLICY), State::Announced, false, at(2099)).is_some());
        assert_eq!(damper.take(Some(&POLICY), State::Announced, false, at(2100)), None);
        assert_eq!(damper.level(), State::Announced);
    }

    #[test]
    fn what_flaps_unseen_must_hold_for_about_as_long_as_it_has_flapped() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut damper = Damper::default();
        damper.take(Some(&POLICY), State::Announced, false, at(0));
        damper.take(Some(&POLICY), State::Withdrawn, true, at(0));
        let mut dwells = Vec::new();
        for tenth in 0..320 {
            damper.take(Some(&POLICY), State::Announced, false, at(tenth * 100));
            damper.take(Some(&POLICY), State::Withdrawn, false, at(tenth * 100 + 50));
            dwells.push(damper.dwell(&POLICY, at(tenth * 100 + 50)).unwrap().1.as_secs());
        }
        assert_eq!([dwells[0], dwells[20], dwells[40], dwells[80], dwells[319]], [1, 2, 4, 8, 32]);
    }

    #[test]
    fn what_was_proven_only_in_part_comes_in_parts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut damper = Damper::default();
        damper.take(Some(&POLICY), State::Announced, false, at(0));
        damper.take(Some(&POLICY), State::Withdrawn, true, at(0));
        damper.take(Some(&POLICY), State::Announced, false, at(0));
        damper.take(Some(&POLICY), State::Degraded, false, at(500));
        damper.take(Some(&POLICY), State::Announced, false, at(600));
        assert!(damper.take(Some(&POLICY), State::Announced, false, at(1000)).is_some());
        assert_eq!(damper.level(), State::Degraded);
        assert!(damper.take(Some(&POLICY), State::Announced, true, at(1999)).is_some());
        damper.take(Some(&POLICY), State::Announced, true, at(2000));
        assert_eq!(damper.level(), State::Announced);
    }

    #[test]
    fn what_is_forgiven_meanwhile_shortens_the_dwell() {
        let now = Instant::now();
        let policy = Damping { min_up: seconds(4), max_dwell: seconds(60), decay: seconds(3) };
        let mut damper = Damper::default();
        for _ in 0..2 {
            damper.take(Some(&policy), State::Announced, false, now);
            damper.level = State::Announced;
            damper.take(Some(&policy), State::Withdrawn, true, now);
        }
        let until = |damper: &Damper, since| {
            let mut damper = *damper;
            damper.take(Some(&policy), State::Announced, false, now + seconds(since)).map(|dwell| dwell.until)
        };
        // Eight seconds at first, four after three, nothing after six.
        assert_eq!(until(&damper, 0), Some(now + seconds(4)));
        assert_eq!(until(&damper, 1), Some(now + seconds(5)));
        assert_eq!(until(&damper, 3), Some(now + seconds(6)));
        assert_eq!(until(&damper, 6), None);
    }

    #[test]
    fn no_more_failures_count_than_make_the_longest_dwell() {
        let now = Instant::now();
        // The longest dwell in steps of the shortest, and how many failures make it.
        for (longest, failures) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 4), (60, 7)] {
            let policy = Damping { max_dwell: seconds(longest), ..POLICY };
            let damper = Damper { strikes: 40, struck_at: Some(now), ..Damper::default() };
            assert_eq!(damper.dwell(&policy, now), Some((failures, seconds(longest))));
            assert_eq!(damper.dwell(&policy, now + policy.decay * failures), None);
        }
    }

    #[test]
    fn without_a_policy_everything_passes() {
        let now = Instant::now();
        let mut damper = Damper::default();
        for _ in 0..10 {
            assert_eq!(damper.take(None, State::Announced, true, now), None);
            assert_eq!(damper.take(None, State::Withdrawn, true, now), None);
        }
        assert_eq!(damper.take(None, State::Degraded, true, now), None);
        assert_eq!(damper.level(), State::Degraded);
    }

    proptest! {
        /// Never up within the dwell after going down; never higher than allowed; never down by itself.
        #[test]
        fn up_only_after_the_dwell(steps in prop::collection::vec((0u64..3000, 0..3usize), 1..60)) {
            let mut now = Instant::now();
            let mut damper = Damper::default();
            let mut fell: Option<Instant> = None;
            for (wait, allowed) in steps {
                now += Duration::from_millis(wait);
                let allowed = [State::Withdrawn, State::Degraded, State::Announced][allowed];
                let before = damper.level();
                let held = damper.take(Some(&POLICY), allowed, before.is_announced(), now);
                let after = damper.level();
                prop_assert!(after <= allowed);
                prop_assert_eq!(held.is_some(), after < allowed);
                if after > before && let Some(fell) = fell {
                    prop_assert!(now - fell >= POLICY.min_up, "up {:?} after a failure", now - fell);
                }
                if after < before {
                    prop_assert_eq!(after, allowed);
                    fell = Some(now);
                }
                if let Some(dwell) = held {
                    prop_assert!(dwell.until > now && dwell.length <= POLICY.max_dwell);
                }
            }
        }
    }
}
