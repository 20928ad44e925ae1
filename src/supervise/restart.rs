//! What is done after a child ends: again after a back-off, or withdraw and exit.

use std::time::Duration;

/// The first back-off; each end in a row doubles it.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest back-off.
pub const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// A child that lived this long was well: its earlier ends no longer count.
pub const WELL_AFTER: Duration = Duration::from_secs(60);

/// What the process owes to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Without it nothing may be announced.
    Essential,
    /// Its absence is a fact that the decision sees; it is started again.
    Restartable,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Start it again once the delay is over.
    Again(Duration),
    /// Withdraw everything and leave with a failure.
    WithdrawAndExit,
}

/// How a child fared lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recent {
    /// Ends in a row, none of them after [`WELL_AFTER`] of life.
    ends: u32,
}

impl Recent {
    /// The history with one more end, of a child that lived `lived`.
    #[must_use]
    pub fn and_ended_after(self, lived: Duration) -> Self {
        let before = if lived >= WELL_AFTER { 0 } else { self.ends };
        Self { ends: before.saturating_add(1) }
    }
}

/// What follows an unexpected end, the last of `recent`. A panic, an error and a return are alike.
#[must_use]
pub fn after_end(duty: Duty, recent: Recent) -> After {
    match duty {
        Duty::Essential => After::WithdrawAndExit,
        Duty::Restartable => {
            let doublings = recent.ends.saturating_sub(1).min(16);
            After::Again(FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(recent: Recent) -> u128 {
        match after_end(Duty::Restartable, recent) {
            After::Again(delay) => delay.as_millis(),
            After::WithdrawAndExit => panic!("a restartable child never ends the process"),
        }
    }

    #[test]
    fn the_delay_doubles_up_to_its_bound() {
        let mut recent = Recent::default();
        let mut seen = Vec::new();
        for _ in 0..40 {
            recent = recent.and_ended_after(Duration::from_secs(1));
            seen.push(delay(recent));
        }
        assert_eq!(seen[..10], [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
        assert!(seen[10..].iter().all(|&ms| ms == 30_000));
    }

    #[test]
    fn a_long_life_forgives() {
        let mut recent = Recent::default();
        for _ in 0..5 {
            recent = recent.and_ended_after(Duration::ZERO);
        }
        assert_eq!(delay(recent.and_ended_after(WELL_AFTER - Duration::from_millis(1))), 3_200);
        assert_eq!(delay(recent.and_ended_after(WELL_AFTER)), 100);
    }

    #[test]
    fn an_essential_child_ends_the_process_however_long_it_lived() {
        for lived in [Duration::ZERO, WELL_AFTER, Duration::MAX] {
            let recent = Recent::default().and_ended_after(lived);
            assert_eq!(after_end(Duty::Essential, recent), After::WithdrawAndExit);
        }
    }

    #[test]
    fn counting_never_overflows() {
        assert_eq!(delay(Recent { ends: u32::MAX }.and_ended_after(Duration::ZERO)), 30_000);
    }
}
