//! One clock for everything that is observed: CLOCK_MONOTONIC in nanoseconds, the same in every namespace and process.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::Serialize;

use crate::sys::packet;

/// Nanoseconds of CLOCK_MONOTONIC. Comparable between threads, processes and network namespaces of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// Before everything.
    pub const ZERO: Moment = Moment(0);
    /// After everything.
    pub const MAX: Moment = Moment(u64::MAX);

    /// The clock, read once.
    pub fn now() -> Moment {
        Moment(packet::monotonic_ns())
    }

    /// How long after `earlier`; zero if it was not after.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long after `earlier`, for waiting; `None` if it was not after.
    pub fn after(self, earlier: Moment) -> Option<Duration> {
        self.0.checked_sub(earlier.0).filter(|left| *left > 0).map(Duration::from_nanos)
    }

    /// Milliseconds after `earlier`, negative if before it: the form figures are made of.
    pub fn ms_after(self, earlier: Moment) -> f64 {
        (i128::from(self.0) - i128::from(earlier.0)) as f64 / 1e6
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_grows_and_differences_keep_their_sign() {
        let a = Moment::now();
        let b = Moment::now();
        assert!(b >= a && a > Moment::ZERO);
        let later = a + Duration::from_micros(1500);
        assert_eq!(later.ms_after(a), 1.5);
        assert_eq!(a.ms_after(later), -1.5);
        assert_eq!(a.since(later), Duration::ZERO);
        assert_eq!((a.after(a), later.after(a)), (None, Some(Duration::from_micros(1500))));
        assert_eq!(later - Duration::from_micros(1500), a);
    }
}
