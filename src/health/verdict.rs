//! What a probe found, in types and in the words of operators, and what is concluded from it.

use std::fmt;
use std::time::Duration;

/// What is believed of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Not enough probes yet. Counts as down for every purpose.
    Unproven,
    Up,
    Down,
}

impl Verdict {
    /// The word in status documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What one backend adds to its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    /// Its weight counts.
    pub(super) healthy: bool,
    /// It has had a verdict.
    pub(super) judged: bool,
}

/// How one probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `rtt`: the TCP handshake, or for HTTP from the start of the handshake to the head of the answer.
    Success {
        rtt: Duration,
    },
    Failure(Failure),
}

/// Why a probe failed. `Display` gives the plain words shown to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The backend's machine answered that nobody listens there. The only proof among failures.
    Refused,
    /// The deadline passed.
    NoAnswer { within: Duration },
    /// The connection was reset after the handshake.
    Reset,
    /// The connection was closed before the answer was complete.
    Closed,
    /// No way there: what the kernel or a router said.
    Unreachable(&'static str),
    /// An HTTP status outside the expected set, which is given in words.
    Status { got: u16, expected: String },
    /// The body's first 64 KiB lack this text.
    BodyLacks(String),
    /// Not HTTP/1.x, or broken HTTP; why.
    Malformed(String),
    /// The answer's head is over the bound, given in bytes.
    TooLarge { bound: usize },
    /// This machine could not ask. Says nothing about the backend.
    Local(&'static str),
    /// Any other error of the socket.
    Other(String),
}

impl Failure {
    /// The words of the local error that held connections may have caused.
    pub const OUT_OF_DESCRIPTORS: &str = "out of file descriptors";

    /// Whether it proves by itself that the backend does not serve: no counting needed.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        matches!(self, Self::Refused)
    }

    /// Whether the fault is this machine's, so that it must not be counted against the backend.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Whether the backend ended a connection that it had accepted: what the last moments of a dying
    /// process look like, since its sockets close one after the other.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        matches!(self, Self::Reset | Self::Closed)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::NoAnswer { within } => write!(f, "no answer within {within:?}"),
            Self::Reset => f.write_str("connection reset before an answer"),
            Self::Closed => f.write_str("connection closed before an answer"),
            Self::Unreachable(what) => write!(f, "unreachable: {what}"),
            Self::Status { got, expected } => write!(f, "status {got} (expected {expected})"),
            Self::BodyLacks(text) => write!(f, "body lacks {text:?}"),
            Self::Malformed(why) => write!(f, "malformed answer: {why}"),
            Self::TooLarge { bound } => write!(f, "answer too large: its head is over {bound} bytes"),
            Self::Local(what) => write!(f, "cannot probe from here: {what}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_operators() {
        let table = [
            (Failure::Refused, "connection refused"),
            (Failure::NoAnswer { within: Duration::from_millis(500) }, "no answer within 500ms"),
            (Failure::Status { got: 500, expected: "2xx".into() }, "status 500 (expected 2xx)"),
            (Failure::BodyLacks("ok".into()), "body lacks \"ok\""),
            (Failure::Local("out of file descriptors"), "cannot probe from here: out of file descriptors"),
        ];
        for (failure, words) in table {
            assert_eq!(failure.to_string(), words);
        }
    }

    #[test]
    fn only_a_refusal_proves_and_only_a_local_error_is_ours() {
        for failure in [
            Failure::NoAnswer { within: Duration::ZERO },
            Failure::Reset,
            Failure::Closed,
            Failure::Unreachable("no route to host"),
            Failure::Malformed(String::new()),
            Failure::Other(String::new()),
        ] {
            assert!(!failure.is_proven() && !failure.is_local(), "{failure}");
        }
        assert!(Failure::Refused.is_proven() && !Failure::Refused.is_local());
        assert!(Failure::Local("x").is_local() && !Failure::Local("x").is_proven());
    }
}
