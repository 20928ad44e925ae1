//! What a soak breaks, and the log of what it broke when.

use std::fmt;

use serde::Deserialize;

use crate::moment::Moment;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL to a service, a router or edgeproxy, then a new process.
    Kill,
    /// SIGSTOP to a service, then SIGCONT. A check of its handshake alone does not see it: the kernel accepts.
    Stop,
    /// An HTTP service answers 500.
    Error,
    /// An HTTP service accepts and never answers.
    Hang,
    /// `HOST/INTERFACE` goes down.
    Down,
    /// edgeproxy takes another valid configuration.
    Reload,
    /// edgeproxy is given a file that it must refuse.
    Broken,
}

impl Fault {
    /// Whether there is nothing to heal afterwards.
    #[must_use]
    pub fn is_over_at_once(self) -> bool {
        matches!(self, Self::Reload | Self::Broken)
    }
}

/// An action: the moments right before it and right after it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub before: Moment,
    pub after: Moment,
}

/// One fault that was brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub target: String,
    pub fault: Fault,
    pub begun: Done,
    /// `None` while it lasts, and for what is over at once.
    pub healed: Option<Done>,
}

impl Entry {
    /// When it was over beyond doubt; `None` while it lasts.
    #[must_use]
    pub fn over(&self) -> Option<Moment> {
        if self.fault.is_over_at_once() { Some(self.begun.after) } else { self.healed.map(|done| done.after) }
    }

    /// The line of a log, with times in seconds after `start`.
    #[must_use]
    pub fn line(&self, start: Moment) -> String {
        let seconds = |done: Done| {
            format!("{:9.3}–{:.3}", done.before.ms_after(start) / 1e3, done.after.ms_after(start) / 1e3)
        };
        let healed =
            self.healed.map_or_else(String::new, |done| format!(", healed {}", seconds(done).trim()));
        format!("{} {} {}{healed}", seconds(self.begun), self.target, self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "killed",
            Self::Stop => "stopped",
            Self::Error => "answers 500",
            Self::Hang => "hangs",
            Self::Down => "down",
            Self::Reload => "reloads",
            Self::Broken => "refuses a broken file",
        })
    }
}
