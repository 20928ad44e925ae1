//! Tasks and threads that die with their owner, and what is done after one ends.

pub mod lease;
pub mod local;
pub mod notify;
pub mod restart;
pub mod task;
pub mod thread;
pub mod tree;
pub mod watchdog;

use std::any::Any;

/// Why a task or a thread gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// It panicked; the message is the panic's.
    #[error("panicked: {0}")]
    Panicked(String),
    /// It was dropped before it was done, by its owner or with its runtime.
    #[error("was stopped before it was done")]
    Aborted,
    /// It did not end by the deadline and cannot be made to: a thread that blocks.
    #[error("did not end in time")]
    Late,
}

impl End {
    /// The end that a caught panic is; the message is cut at 1,000 characters.
    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::Panicked(message.chars().take(1_000).collect())
    }
}
