//! An end without any last act, as when the power fails.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Ends this process by SIGKILL. It comes back only if the kernel refuses, with the reason.
pub fn crash() -> io::Error {
    match kill(Pid::this(), Signal::SIGKILL) {
        // The signal is taken on the way back from the call.
        Ok(()) => io::Error::other("the process survived its own SIGKILL"),
        Err(error) => error.into(),
    }
}
