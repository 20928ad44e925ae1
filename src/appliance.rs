//! The process as a whole: builds every room, wires them, reloads and stops them.

mod drains;
mod fleetwide;
pub mod forecast;
pub mod gate;
pub mod reload;
mod running;
pub mod shutdown;
pub mod transaction;
pub mod wiring;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::admin::AdminError;
use crate::announce::AnnounceError;
use crate::bgp::BgpError;
use crate::config::environment::Environment;
use crate::config::generation::Beginning;
use crate::config::observe::LogFormat;
use crate::observe::log::{LogError, Logs, Shape};
use crate::supervise::End;

/// How long the last log lines may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Why the process ends other than by a planned stop.
#[derive(Debug, thiserror::Error)]
pub enum ApplianceError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    #[error(transparent)]
    Bgp(#[from] BgpError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the kernel refuses a thread or a signal handler: {0}")]
    Resources(#[from] io::Error),
    #[error("{part} {end}: its prefixes are withdrawn and the process ends")]
    Fallen { part: &'static str, end: End },
    #[error("{part} failed: {why}; its prefixes are withdrawn and the process ends")]
    Failed { part: &'static str, why: String },
    #[error("a second signal ended the process at once")]
    Impatient,
}

/// Runs a POP until it is told to stop. `path` is the file that reloads read, `state` the directory of what
/// a restart must not forget.
///
/// # Errors
/// When logging is set up already, or a part that is essential cannot start or ends unexpectedly.
pub async fn run(
    beginning: Beginning,
    path: PathBuf,
    state: PathBuf,
    environment: Environment,
) -> Result<(), ApplianceError> {
    let log = beginning.config.observe.log;
    let shape = match log.format {
        LogFormat::Text => Shape::Text,
        LogFormat::Json => Shape::Json,
    };
    let logs = Logs::install(reload::level(log.level), shape)?;
    let outcome = match running::Appliance::start(beginning, path, state, environment, logs.clone()).await {
        Ok(appliance) => appliance.run().await,
        Err(error) => Err(error),
    };
    logs.flush(LAST_LINES);
    outcome
}
