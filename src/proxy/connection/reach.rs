//! Finds a backend that answers: the choice, attempts in a row, and the deadline over all of them.
#![expect(clippy::disallowed_methods, reason = "driver: waits for backends no longer than it may")]

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::catalog::live::Place;
use crate::catalog::select::{self, Client};
use crate::catalog::service::Service;
use crate::config::services::Timeouts;
use crate::proxy::dial::dial;
use crate::proxy::end::{End, Kind};
use crate::proxy::stream::Stream;
use crate::proxy::worker::Shared;
use crate::sys::stream as kernel;

/// The most attempts that a configuration may ask for.
const MOST_ATTEMPTS: usize = 16;

/// A backend that answered.
pub(super) struct Reached {
    pub(super) stream: Stream,
    /// Among the service's backends.
    pub(super) index: usize,
    pub(super) place: Place,
}

/// Tries backends, the best first, until one answers.
pub(super) async fn reach(
    shared: &Shared,
    service: &Service,
    client: &Client,
    _to: Option<SocketAddr>,
) -> Result<Reached, End> {
    let Timeouts { connect, deadline, .. } = service.forwarding.timeouts;
    let most = (service.forwarding.attempts as usize).clamp(1, MOST_ATTEMPTS);
    let began = Instant::now();
    let mut tried = [0; MOST_ATTEMPTS];
    let mut last = None;
    for attempt in 0..most {
        let now = Instant::now();
        let left = deadline.saturating_sub(now - began);
        if left.is_zero() {
            break;
        }
        let chosen = {
            let view = shared.view.borrow();
            select::select(
                service,
                &view.region,
                client,
                &tried[..attempt],
                now,
                shared.ms(now),
                shared.dice(),
            )
        };
        let (index, place) = match chosen {
            Ok(chosen) => chosen,
            // What became of the attempts says more than that nobody is left.
            Err(nobody) => {
                return Err(last.unwrap_or_else(|| End::because(Kind::NoBackend, nobody.to_string())));
            }
        };
        let backend = &service.backends[index];
        match dial(backend.address, connect.min(left).max(Duration::from_millis(1))).await {
            Ok(stream) => return Ok(Reached { stream, index, place }),
            Err(error) => {
                let kind = match error.kind() {
                    io::ErrorKind::TimedOut => Kind::BackendSilent,
                    _ if kernel::is_starved(&error) => Kind::Starved,
                    _ => Kind::BackendUnreachable,
                };
                let end = End::because(kind, format!("{} at {}: {error}", backend.id, backend.address));
                // Another backend would need the same.
                if kind == Kind::Starved {
                    return Err(end);
                }
                last = Some(end);
                tried[attempt] = index;
            }
        }
    }
    Err(last.unwrap_or_else(|| End::of(Kind::NoBackend)))
}
