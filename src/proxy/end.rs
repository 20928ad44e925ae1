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
    /// The backend refused the connection: nobody listens there.
    BackendRefused,
    /// There is no way to the backend, or its host is gone.
    BackendUnreachable,
    /// The backend did not answer in time.
    BackendSilent,
    /// The backend took the connection and reset it before it said anything.
    BackendResetEarly,
    /// The backend reset the connection.
    BackendReset,
    /// As many connections of this source as may be, or more in a second.
    SourceLimited,
    /// As many connections of this listener as may be, or more in a second.
    ListenerLimited,
    /// As many connections or handshakes as the process may have.
    Overloaded,
    /// As much memory as the process may hold for slow receivers.
    MemoryLimited,
    /// The kernel has no descriptors or memory for us.
    Starved,
    /// The listener was drained or closed, and the deadline for what it had came.
    Drained,
    /// The process stops, and its deadline came.
    Stopped,
    /// A fault of ours.
    Fault,
}

impl Kind {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 22] = [
        Self::Finished,
        Self::ClientLeft,
        Self::ClientReset,
        Self::ClientSilent,
        Self::HeaderRefused,
        Self::TlsRefused,
        Self::NameUnknown,
        Self::Idle,
        Self::NoBackend,
        Self::BackendRefused,
        Self::BackendUnreachable,
        Self::BackendSilent,
        Self::BackendResetEarly,
        Self::BackendReset,
        Self::SourceLimited,
        Self::ListenerLimited,
        Self::Overloaded,
        Self::MemoryLimited,
        Self::Starved,
        Self::Drained,
        Self::Stopped,
        Self::Fault,
    ];

    /// The stable name: it is in logs and metrics.
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
            Self::BackendRefused => "backend-refused",
            Self::BackendUnreachable => "backend-unreachable",
            Self::BackendSilent => "backend-silent",
            Self::BackendResetEarly => "backend-reset-early",
            Self::BackendReset => "backend-reset",
            Self::SourceLimited => "source-limited",
            Self::ListenerLimited => "listener-limited",
            Self::Overloaded => "overloaded",
            Self::MemoryLimited => "memory-limited",
            Self::Starved => "starved",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
            Self::Fault => "fault",
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
            | Self::SourceLimited => Some(Blame::Client),
            Self::NoBackend
            | Self::BackendRefused
            | Self::BackendUnreachable
            | Self::BackendSilent
            | Self::BackendResetEarly
            | Self::BackendReset => Some(Blame::Backend),
            // A bound that all clients share is ours: none of them alone has done anything wrong.
            Self::ListenerLimited
            | Self::Overloaded
            | Self::MemoryLimited
            | Self::Starved
            | Self::Drained
            | Self::Stopped
            | Self::Fault => Some(Blame::Ourselves),
        }
    }

    /// Whether both sides had what they wanted.
    #[must_use]
    pub fn is_orderly(self) -> bool {
        self == Self::Finished
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
        let is_kebab = |name: &str| {
            !name.split('-').any(str::is_empty)
                && !name.contains(|c: char| c != '-' && !c.is_ascii_lowercase())
        };
        assert!(names.iter().all(|name| is_kebab(name)), "{names:?}");
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        for (index, blame) in Blame::ALL.into_iter().enumerate() {
            assert_eq!(blame as usize, index);
        }
    }
    #[test]
    fn every_end_has_its_blame() {
        // Written out once more: what a dashboard counts must not change unnoticed.
        let client = [
            "client-left",
            "client-reset",
            "client-silent",
            "header-refused",
            "idle",
            "name-unknown",
            "source-limited",
            "tls-refused",
        ];
        let backend = [
            "backend-refused",
            "backend-reset",
            "backend-reset-early",
            "backend-silent",
            "backend-unreachable",
            "no-backend",
        ];
        let ourselves =
            ["drained", "fault", "listener-limited", "memory-limited", "overloaded", "starved", "stopped"];
        for (blame, names) in [
            (None, &["finished"][..]),
            (Some(Blame::Client), &client),
            (Some(Blame::Backend), &backend),
            (Some(Blame::Ourselves), &ourselves),
        ] {
            let blamed: BTreeSet<_> =
                Kind::ALL.iter().filter(|kind| kind.blame() == blame).map(|kind| kind.name()).collect();
            assert_eq!(blamed, names.iter().copied().collect());
        }
        assert!(Kind::ALL.iter().all(|kind| kind.is_orderly() == kind.blame().is_none()));
    }
}
