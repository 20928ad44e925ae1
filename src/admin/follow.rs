//! Events for the command line: the last ones, and then whatever comes.
#![expect(clippy::disallowed_methods, reason = "driver: waits for a process that is being restarted")]

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::sleep;

use super::client::Client;
use super::{AdminError, Events, query, screen};
use crate::observe::journal::Entry;

/// Pauses before a process that is gone is asked again: the first, and the longest after doubling.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Which events are told, and how.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only those about this prefix, or the prefix around this address.
    pub prefix: Option<String>,
    /// How many of the past; the server says how many it gives at most.
    pub last: u64,
    /// Go on with those to come.
    pub follow: bool,
    /// One JSON object a line.
    pub json: bool,
}

/// Writes events to `out`, until it is closed where they are followed. A process that is gone meanwhile is
/// waited for, which `aside` is told once.
pub async fn tell(
    client: &Client,
    wanted: &Wanted,
    out: &mut impl Write,
    aside: &mut impl Write,
) -> Result<(), AdminError> {
    let about = wanted.prefix.as_ref().map(|prefix| format!("&prefix={}", query::encode(prefix)));
    let about = about.unwrap_or_default();
    let mut after: Option<u64> = None;
    let mut pause = PAUSES.0;
    loop {
        let target = match after {
            None => format!("/v1/events?limit={}{about}", wanted.last),
            Some(seq) => format!("/v1/events?after={seq}&wait=1{about}"),
        };
        match client.get(&target).await.and_then(|answer| client.read::<Events>(&answer)) {
            Ok(Events { entries, seq }) => {
                if write(&entries, wanted.json, out).is_err() || !wanted.follow {
                    return Ok(());
                }
                // A process whose journal began anew tells it from its beginning.
                after = Some(if after.is_some_and(|after| seq < after) { 0 } else { seq });
                pause = PAUSES.0;
            }
            Err(error) if after.is_some() && passes(&error) => {
                if pause == PAUSES.0 {
                    let _ = writeln!(aside, "edgeproxy: {error}\nedgeproxy: waiting until it answers again");
                }
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether it is what a process shows that is being restarted.
fn passes(error: &AdminError) -> bool {
    matches!(
        error,
        AdminError::NotRunning { .. } | AdminError::NoAnswer(..) | AdminError::NotUnderstood { .. }
    )
}

fn write(entries: &[Entry], json: bool, out: &mut impl Write) -> io::Result<()> {
    for entry in entries {
        if json {
            serde_json::to_writer(&mut *out, entry)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", screen::event(entry))?;
        }
    }
    out.flush()
}
