//! How a connection ended, and who is to blame.

use std::borrow::Cow;

/// Who is to blame for an end that is none of the orderly ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    Client,
    Backend,
    Ourselves,
}

impl Blame {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 3] = [Self::Client, Self::Backend, Self::Ourselves];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Ourselves => "ourselves",
        }
    }
}

/// The way a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Both sides said that they had finished.
    Finished,
    /// The client went before it had said enough to be taken anywhere.
    ClientLeft,
    /// The client reset the connection, or its network lost it.
    ClientReset,
    /// The client did not come to the end of its PROXY header, ClientHello or handshake in time.
    ClientSilent,
    /// What the client said is no PROXY header, though its address must send one.
    HeaderRefused,
    /// What the client said is no TLS that we speak.
    TlsRefused,
    /// No service here has the name that the client asked for.
    NameUnknown,
    /// Nothing moved for too long.
    Idle,
    /// No backend may be used.
    NoBackend,
    /// Backends refused the connection or could not be reached.
    BackendUnreachable,
    /// Backends did not answer in time.
    BackendSilent,
    /// The backend reset the connection before it said anything.
    BackendRefused,
    /// The backend reset the connection.
    BackendReset,
    /// A bound of the listener or of the source.
    Limited,
    /// The process holds as much as it may.
    Overloaded,
    /// The kernel has no descriptors or memory for us.
    Starved,
    /// A planned stop or a drain came to its deadline.
    Drained,
}

impl Kind {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 17] = [
        Self::Finished,
        Self::ClientLeft,
        Self::ClientReset,
        Self::ClientSilent,
        Self::HeaderRefused,
        Self::TlsRefused,
        Self::NameUnknown,
        Self::Idle,
        Self::NoBackend,
        Self::BackendUnreachable,
        Self::BackendSilent,
        Self::BackendRefused,
        Self::BackendReset,
        Self::Limited,
        Self::Overloaded,
        Self::Starved,
        Self::Drained,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ClientLeft => "client-left",
            Self::ClientReset => "client-reset",
            Self::ClientSilent => "client-silent",
            Self::HeaderRefused => "header-refused",
            Self::TlsRefused => "tls-refused",
            Self::NameUnknown => "name-unknown",
            Self::Idle => "idle",
            Self::NoBackend => "no-backend",
            Self::BackendUnreachable => "backend-unreachable",
            Self::BackendSilent => "backend-silent",
            Self::BackendRefused => "backend-refused",
            Self::BackendReset => "backend-reset",
            Self::Limited => "limited",
            Self::Overloaded => "overloaded",
            Self::Starved => "starved",
            Self::Drained => "drained",
        }
    }

    /// Who is to blame; None for what is nobody's fault.
    #[must_use]
    pub fn blame(self) -> Option<Blame> {
        match self {
            Self::Finished => None,
            Self::ClientLeft
            | Self::ClientReset
            | Self::ClientSilent
            | Self::HeaderRefused
            | Self::TlsRefused
            | Self::NameUnknown
            | Self::Idle
            | Self::Limited => Some(Blame::Client),
            Self::NoBackend
            | Self::BackendUnreachable
            | Self::BackendSilent
            | Self::BackendRefused
            | Self::BackendReset => Some(Blame::Backend),
            Self::Overloaded | Self::Starved | Self::Drained => Some(Blame::Ourselves),
        }
    }
}

/// The end of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub kind: Kind,
    /// What made it so, for a log; may be empty.
    pub words: Cow<'static, str>,
}

impl End {
    /// An end that its kind says enough of.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self { kind, words: Cow::Borrowed("") }
    }

    /// An end with what made it so.
    #[must_use]
    pub fn because(kind: Kind, words: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, words: words.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_its_place_and_its_name() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        for (index, blame) in Blame::ALL.into_iter().enumerate() {
            assert_eq!(blame as usize, index);
        }
    }
}
