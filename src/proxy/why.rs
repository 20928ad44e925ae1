//! How a connection came to its backend, in three octets: for the access log, and for who looks at open connections.

use std::fmt;

use super::end::Kind;
use crate::catalog::live::Place;

/// Why a connection is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Why {
    pub how: How,
    /// From 1.
    pub attempt: u8,
    /// What became of the attempt before.
    pub after: Option<Kind>,
}

/// What decided on the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The client's address was bound to it.
    Bound,
    /// It had the best score, and luck among equals.
    Best,
    /// Too few were healthy, so that all were used.
    Panic,
    /// Its ejection was over, and this connection tried it.
    Trial,
    /// It is a TLS-ALPN-01 challenge, which goes to `acme`.
    Acme,
}

impl How {
    /// What decided when a place was taken.
    #[must_use]
    pub fn of(place: &Place, is_bound: bool) -> Self {
        if is_bound {
            Self::Bound
        } else if place.is_in_panic() {
            Self::Panic
        } else if place.is_trial() {
            Self::Trial
        } else {
            Self::Best
        }
    }

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Best => "best",
            Self::Panic => "panic",
            Self::Trial => "trial",
            Self::Acme => "acme",
        }
    }
}

impl fmt::Display for Why {
    /// `best`, or `best, attempt 2 after backend-refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.how.name())?;
        match self.after {
            Some(kind) => write!(f, ", attempt {} after {}", self.attempt, kind.name()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::live::Live;

    #[test]
    fn it_is_short_in_memory_and_in_words() {
        assert_eq!(std::mem::size_of::<Option<Why>>(), 3);
        let first = Why { how: How::Bound, attempt: 1, after: None };
        assert_eq!(first.to_string(), "bound");
        let third = Why { how: How::Best, attempt: 3, after: Some(Kind::BackendSilent) };
        assert_eq!(third.to_string(), "best, attempt 3 after backend-silent");
    }

    #[test]
    fn a_place_says_what_decided() {
        let live = Arc::new(Live::default());
        assert_eq!(How::of(&live.take(0).unwrap(), false), How::Best);
        live.eject_until(1_000);
        let trial = live.take_standing(0, 1_000, 500).unwrap();
        assert_eq!((How::of(&trial, false), How::of(&trial, true)), (How::Trial, How::Bound));
    }
}
