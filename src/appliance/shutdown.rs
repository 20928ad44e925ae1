//! The order of a stop, and the signals that ask for it.
//!
//! Phases: announce with GRACEFUL_SHUTDOWN → withdraw → the withdrawal is written → Cease → sessions
//! closed → addresses taken away. The same order serves a failed part, without the grace.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::ApplianceError;
use crate::announce::announcer::Announcer;
use crate::bgp::speaker::Speaker;
use crate::supervise::task::Task;

/// The life of the routing thread: the decision and the speaker, until `stop` or the end of either.
///
/// # Errors
/// Of whichever ended before `stop`; the other has been stopped in order.
pub async fn route(
    mut announcer: Announcer,
    speaker: Speaker,
    stop: CancellationToken,
) -> Result<(), ApplianceError> {
    let close_sessions = CancellationToken::new();
    let mut speaker = Task::spawn("speaker", speaker.run(close_sessions.clone()));
    let decided = tokio::select! {
        // A speaker that ends has closed its sessions: there is nothing left to withdraw.
        ended = &mut speaker => {
            return match ended {
                Ok(result) => Ok(result?),
                Err(end) => Err(ApplianceError::Fallen { part: "speaker", end }),
            };
        }
        decided = announcer.run(stop) => decided,
    };
    if let Err(error) = &decided {
        error!("the decision ended: {error}; all sessions are closed");
    }
    close_sessions.cancel();
    if let Err(end) = speaker.await {
        error!("the speaker {end}");
    }
    Ok(decided?)
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
}

/// The signals of a daemon.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes SIGTERM, SIGINT and SIGHUP over.
    ///
    /// # Errors
    /// The kernel's.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next request.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop,
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}
