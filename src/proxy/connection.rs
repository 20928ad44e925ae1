//! The life of one connection: from the accept to its end, whoever is to blame for that.
#![expect(clippy::disallowed_methods, reason = "driver: owns the sockets of a connection")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use super::dial::dial;
use super::end::{End, Kind};
use super::plan::{Door, Entrance};
use super::relay::{Patience, Relay, RelayEnd, Side};
use super::stream::Stream;
use super::totals::Taken;
use super::wheel::Slot;
use super::worker::Shared;
use crate::catalog::live::Place;
use crate::catalog::select::{self, Client, Nobody};
use crate::catalog::service::Service;
use crate::config::services::Timeouts;
use crate::sys::stream as kernel;

/// Sends a client away at once: there is no room.
pub(super) fn refuse(socket: &OwnedFd) {
    kernel::reset_on_close(socket.as_fd());
}

/// Serves one client until its end.
pub(super) async fn live(
    shared: Rc<Shared>,
    door: Arc<Door>,
    socket: OwnedFd,
    from: SocketAddr,
    _place: Taken,
) {
    let _flow = door.flows.begin();
    let end = serve(&shared, &door, socket, from).await;
    if end.kind.blame().is_some() {
        tracing::debug!(door = %door.key, client = %from, end = end.kind.name(), "{}", end.words);
    }
}

async fn serve(shared: &Shared, door: &Door, socket: OwnedFd, from: SocketAddr) -> End {
    let client = match Stream::new(socket, true) {
        Ok(client) => client,
        Err(error) => return End::because(Kind::Starved, error.to_string()),
    };
    let name = match &door.entrance {
        Entrance::Service(name) => name,
    };
    let service = shared.view.borrow().services.get(name).map(Arc::clone);
    let Some(service) = service else {
        client.reset_on_drop();
        return End::of(Kind::NoBackend);
    };
    let who = Client { source: from.ip(), country: None, region: None };
    let (backend, place) = match reach(shared, &service, &who).await {
        Ok(reached) => reached,
        Err(end) => {
            client.reset_on_drop();
            return end;
        }
    };
    let patience = Silence::new(shared.wheel.slot(), service.forwarding.timeouts);
    let outcome = Relay::new(client, backend, Vec::new(), patience).await;
    drop(place);
    match outcome.end {
        RelayEnd::Finished => End::of(Kind::Finished),
        RelayEnd::Idle => End::of(Kind::Idle),
        RelayEnd::Failed(Side::Client, error) => End::because(Kind::ClientReset, error.to_string()),
        RelayEnd::Failed(Side::Backend, error) if outcome.down == 0 => {
            End::because(Kind::BackendRefused, error.to_string())
        }
        RelayEnd::Failed(Side::Backend, error) => End::because(Kind::BackendReset, error.to_string()),
    }
}

/// Finds a backend that answers.
async fn reach(shared: &Shared, service: &Service, client: &Client) -> Result<(Stream, Place), End> {
    let Timeouts { connect, deadline, .. } = service.forwarding.timeouts;
    let began = Instant::now();
    let mut tried = [usize::MAX; 16];
    let mut attempts = 0;
    let mut last = None;
    loop {
        let region = shared.view.borrow().region.clone();
        let now = Instant::now();
        let now_ms = now.duration_since(shared.started).as_millis() as u64;
        let chosen = select::select(service, &region, client, &tried[..attempts], now, now_ms, shared.dice());
        let (index, place) = match chosen {
            Ok(chosen) => chosen,
            Err(nobody) => {
                return Err(match (nobody, last) {
                    (_, Some(end)) => end,
                    (Nobody::Full, None) => End::because(Kind::NoBackend, nobody.to_string()),
                    (_, None) => End::because(Kind::NoBackend, nobody.to_string()),
                });
            }
        };
        let left = deadline.saturating_sub(began.elapsed());
        let backend = &service.backends[index];
        match dial(backend.address, connect.min(left).max(Duration::from_millis(1))).await {
            Ok(stream) => return Ok((stream, place)),
            Err(error) => {
                drop(place);
                let kind = match error.kind() {
                    io::ErrorKind::TimedOut => Kind::BackendSilent,
                    _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => Kind::Starved,
                    _ => Kind::BackendUnreachable,
                };
                last = Some(End::because(kind, format!("{} at {}: {error}", backend.id, backend.address)));
                tried[attempts] = index;
                attempts += 1;
            }
        }
        if attempts >= (service.forwarding.attempts as usize).min(tried.len()) || began.elapsed() >= deadline
        {
            return Err(last.unwrap_or_else(|| End::of(Kind::NoBackend)));
        }
    }
}

/// Ends connections on which nothing moves.
#[derive(Debug)]
struct Silence {
    slot: Slot,
    timeouts: Timeouts,
}

impl Silence {
    fn new(slot: Slot, timeouts: Timeouts) -> Self {
        slot.set(timeouts.idle);
        Self { slot, timeouts }
    }
}

impl Patience for Silence {
    fn handle_progress(&mut self, half_closed: bool) {
        self.slot.set(if half_closed { self.timeouts.half_closed } else { self.timeouts.idle });
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.slot.is_over(context)
    }
}
