//! Finds a backend that answers: the choice, attempts in a row, and the deadline over all of them.
#![expect(clippy::disallowed_methods, reason = "driver: waits for backends no longer than it may")]

use std::io;
use std::time::{Duration, Instant};

use super::arrive::Only;
use super::blame;
use crate::catalog::live::Place;
use crate::catalog::select::{self, Client, Nobody};
use crate::catalog::service::Service;
use crate::config::services::Timeouts;
use crate::proxy::dial::dial;
use crate::proxy::end::{End, Kind};
use crate::proxy::source::Source;
use crate::proxy::stream::Stream;
use crate::proxy::tally::Tally;
use crate::proxy::why::{How, Why};
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
    pub(super) why: Why,
}

/// Tries backends, the one that the client is bound to first, then the best, until one answers.
/// `only` narrows the choice.
pub(super) async fn reach(
    shared: &Shared,
    service: &Service,
    tally: &Tally,
    client: &Client,
    only: &Only,
) -> Result<Reached, End> {
    let Timeouts { connect, deadline, .. } = service.forwarding.timeouts;
    let most = (service.forwarding.attempts as usize).clamp(1, MOST_ATTEMPTS);
    let began = Instant::now();
    tally.first_attempt(service.forwarding.retry_budget);
    let to = match only {
        Only::To(to) => Some(*to),
        Only::Anywhere | Only::Here(_) => None,
    };
    let mut tried = barred(service, only);
    let mut last: Option<End> = None;
    for attempt in 0..most {
        let now = Instant::now();
        let left = deadline.saturating_sub(now - began);
        if left.is_zero() || (attempt > 0 && !tally.further_attempt()) {
            break;
        }
        let bound = match only {
            Only::Here(id) if attempt == 0 => named(shared, service, id, now),
            Only::Anywhere | Only::To(_) if attempt == 0 => bound(shared, service, client, now),
            _ => None,
        };
        let is_bound = bound.is_some();
        let chosen = match bound {
            Some(bound) => Ok(bound),
            None => choose(shared, service, client, &tried, now),
        };
        let (index, place) = match chosen {
            Ok(chosen) => chosen,
            // What became of the attempts says more than that nobody is left.
            Err(nobody) => {
                return Err(last.unwrap_or_else(|| End::because(Kind::NoBackend, nobody.to_string())));
            }
        };
        let backend = &service.backends[index];
        let address = to.unwrap_or(backend.address);
        match dial(address, connect.min(left).max(Duration::from_millis(1))).await {
            Ok(stream) => {
                if service.forwarding.affinity.is_some() {
                    let (source, now) = (Source::of(client.source), shared.ms(now));
                    shared.totals.affinity().bind(&service.name, source, backend.live.serial(), now);
                }
                let how = if to.is_some() { How::Acme } else { How::of(&place, is_bound) };
                let why = Why { how, attempt: attempt as u8 + 1, after: last.map(|end| end.kind) };
                return Ok(Reached { stream, index, place, why });
            }
            Err(error) => {
                let kind = match error.kind() {
                    io::ErrorKind::TimedOut => Kind::BackendSilent,
                    io::ErrorKind::ConnectionRefused => Kind::BackendRefused,
                    _ if kernel::is_starved(&error) => Kind::Starved,
                    _ => Kind::BackendUnreachable,
                };
                let end = End::because(kind, format!("{} at {address}: {error}", backend.id));
                // Another backend would need the same, and another address says nothing of the backend.
                if kind == Kind::Starved || to.is_some() {
                    return Err(end);
                }
                // Counted before its place, perhaps a trial, is free for the next.
                blame(shared, service, index);
                drop(place);
                last = Some(end);
                tried.push(index);
            }
        }
    }
    Err(last.unwrap_or_else(|| End::of(Kind::NoBackend)))
}

/// The backend that the client is bound to, if it may be used.
fn bound(shared: &Shared, service: &Service, client: &Client, now: Instant) -> Option<(usize, Place)> {
    let ttl = service.forwarding.affinity?;
    let now = shared.ms(now);
    let serial = shared.totals.affinity().find(&service.name, Source::of(client.source), ttl, now)?;
    let index = service.position(serial)?;
    Some((index, select::take_bound(service, index, now).ok()?))
}

/// The backend that another POP asks for, if it may be used.
fn named(shared: &Shared, service: &Service, id: &str, now: Instant) -> Option<(usize, Place)> {
    let index = service.backends.iter().position(|backend| &*backend.id == id && backend.pop.is_none())?;
    Some((index, select::take_bound(service, index, shared.ms(now)).ok()?))
}

/// Backends that are out of the question before the first attempt.
fn barred(service: &Service, only: &Only) -> Vec<usize> {
    let remote = service.backends.iter().enumerate().filter(|(_, backend)| backend.pop.is_some());
    match only {
        Only::Here(_) => remote.map(|(index, _)| index).collect(),
        Only::Anywhere | Only::To(_) => Vec::new(),
    }
}

fn choose(
    shared: &Shared,
    service: &Service,
    client: &Client,
    tried: &[usize],
    now: Instant,
) -> Result<(usize, Place), Nobody> {
    let view = shared.view.borrow();
    select::select(service, &view.region, client, tried, now, shared.ms(now), shared.dice())
}
