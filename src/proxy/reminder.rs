//! Says in the log which certificates end soon.
#![expect(clippy::disallowed_methods, reason = "driver: asks the clock of the wall")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::plan::Plan;
use super::tls::expiry::Reminders;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(60);

/// Looks at the certificates of the plan, now and whenever it changes.
///
/// Runs until `stop`, or until nobody makes plans any more.
pub async fn run(mut plan: watch::Receiver<Arc<Plan>>, stop: CancellationToken) {
    let mut reminders = Reminders::default();
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = plan.changed() => if changed.is_err() {
                return;
            },
            _ = every.tick() => {}
        }
        let certificates = plan.borrow_and_update().certificates.clone();
        let now = SystemTime::now();
        for (it, is_over) in reminders.handle_time(&certificates, now) {
            let names = it.names.join(" ");
            let problem = it.status(now).problem.unwrap_or_default();
            if is_over {
                error!(service = it.service, listener = it.listener, names, "the certificate {problem}");
            } else {
                warn!(service = it.service, listener = it.listener, names, "the certificate {problem}");
            }
        }
    }
}
