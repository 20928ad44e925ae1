//! The places at which a transaction may be cut short: tests end the process at each of them.

use std::io;

/// A place in a transaction, in the order in which it is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    BeforeText,
    /// Written, but perhaps not on the disk yet.
    TextWritten,
    TextRenamed,
    BeforeSwitch,
    /// In force, unconfirmed.
    Switched,
    BeforeConfirm,
    /// The pointer's temporary file is on the disk.
    ConfirmWritten,
    Confirmed,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::BeforeText,
        Self::TextWritten,
        Self::TextRenamed,
        Self::BeforeSwitch,
        Self::Switched,
        Self::BeforeConfirm,
        Self::ConfirmWritten,
        Self::Confirmed,
    ];

    /// The name that `EDGEPROXY_FAULT=apply:NAME` uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeText => "before-text",
            Self::TextWritten => "text-written",
            Self::TextRenamed => "text-renamed",
            Self::BeforeSwitch => "before-switch",
            Self::Switched => "switched",
            Self::BeforeConfirm => "before-confirm",
            Self::ConfirmWritten => "confirm-written",
            Self::Confirmed => "confirmed",
        }
    }

    /// The step of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }
}

/// A test hook: something that happens at one step.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub at: Step,
    /// Ends the process. Where it comes back (in tests that only look at the disk) the step has failed.
    pub end: fn() -> io::Error,
}

impl Fault {
    /// Happens, if this is its step.
    ///
    /// # Errors
    /// What `end` says.
    pub fn reached(self, step: Step) -> io::Result<()> {
        if self.at == step { Err((self.end)()) } else { Ok(()) }
    }
}
