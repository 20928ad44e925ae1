//! How much healthy weight is enough: the position of a service between its watermarks.

use crate::config::services::Watermark;

/// Where a service's healthy weight stands, from worst to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// At or under the low watermark, and not at the high one.
    Low,
    /// Over low and under high: what was decided before stays.
    Between,
    /// At or over high, but under the degrade mark.
    BrownOut,
    /// At or over both.
    Full,
}

/// The watermarks of one service, counted out as weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Levels {
    pub low: u32,
    pub high: u32,
    pub degrade: Option<u32>,
}

impl Levels {
    /// Counts the shares out against the whole weight of the service.
    #[must_use]
    pub fn of(watermark: &Watermark, total: u32) -> Self {
        Self {
            low: watermark.low.of(total),
            high: watermark.high.of(total),
            degrade: watermark.degrade.map(|level| level.of(total)),
        }
    }

    /// The position of a healthy weight. Reaching high wins over being at low, so that with equal
    /// watermarks (the default: 1 and 1) a weight at the mark is up and anything under it is low.
    #[must_use]
    pub fn position(&self, healthy: u32) -> Position {
        if healthy >= self.high {
            if self.degrade.is_some_and(|degrade| healthy < degrade) {
                Position::BrownOut
            } else {
                Position::Full
            }
        } else if healthy <= self.low {
            Position::Low
        } else {
            Position::Between
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::services::Level;

    #[test]
    fn positions() {
        use Position::{Between, BrownOut, Full, Low};
        // low, high, degrade, then the positions of the weights 0, 1, 2, …
        let table: [(u32, u32, Option<u32>, &[Position]); 6] = [
            (1, 1, None, &[Low, Full, Full]),
            (2, 2, None, &[Low, Low, Full, Full]),
            (1, 3, None, &[Low, Low, Between, Full, Full]),
            (1, 2, Some(4), &[Low, Low, BrownOut, BrownOut, Full]),
            (0, 2, Some(2), &[Low, Between, Full]),
            (0, 0, None, &[Full, Full]),
        ];
        for (low, high, degrade, expected) in table {
            let levels = Levels { low, high, degrade };
            for (weight, &position) in (0u32..).zip(expected) {
                assert_eq!(levels.position(weight), position, "{levels:?} at {weight}");
            }
        }
    }

    #[test]
    fn shares_are_counted_out_upwards() {
        let watermark =
            Watermark { low: Level::Percent(0), high: Level::Percent(34), degrade: Some(Level::Percent(50)) };
        assert_eq!(Levels::of(&watermark, 9), Levels { low: 0, high: 4, degrade: Some(5) });
    }

    proptest! {
        #[test]
        fn more_weight_is_never_a_worse_position(low in 0u32..20, more in 0u32..20, degrade in prop::option::of(0u32..20)) {
            let high = low + more;
            let levels = Levels { low, high, degrade: degrade.map(|over| high + over) };
            for weight in 0..70 {
                prop_assert!(levels.position(weight) <= levels.position(weight + 1));
            }
        }
    }
}
