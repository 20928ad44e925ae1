//! The life of one connection: from the accept to its end, whoever is to blame for that.
#![expect(clippy::disallowed_methods, reason = "driver: owns the sockets of a connection")]

mod arrive;
mod introduce;
mod reach;
mod silence;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tracing::{info, warn};

use self::arrive::{Arrival, Arrived, Only, arrive, at_once, header, in_time};
use self::introduce::Introduced;
use self::reach::{Reached, reach};
use self::silence::Silence;
use super::admission::{Admitted, Refused};
use super::desk::Proof;
use super::ejection::{self, Failed};
use super::end::{End, Kind};
use super::plan::{Door, Entrance, Standing};
use super::relay::{Outcome, Relay, RelayEnd, Side};
use super::roll::Entry;
use super::source::Source;
use super::stream::Stream;
use super::tally::Tally;
use super::totals::Taken;
use super::worker::Shared;
use crate::catalog::select::Client;
use crate::catalog::service::Service;
use crate::config::services::id_at_its_pop;
use crate::sys::stream as kernel;

/// Sends a client away at once: there is no room.
pub(super) fn refuse(socket: &OwnedFd) {
    kernel::reset_on_close(socket.as_fd());
}

/// Takes a client in, if the listener and the source have room for it. Without a source it is judged later.
pub(super) fn admit(
    shared: &Shared,
    door: &Door,
    source: Option<IpAddr>,
) -> Result<Option<Admitted>, Refused> {
    let Some(source) = source else { return Ok(None) };
    let admitted = door.admission.admit(&door.limits, source, shared.ms(shared.coarse_now()));
    if admitted.is_err() {
        shared.totals.refused.fetch_add(1, Ordering::Relaxed);
    }
    admitted.map(Some)
}

/// Whether connections from there begin with a PROXY header.
pub(super) fn speaks_for_others(door: &Door, from: IpAddr) -> bool {
    door.proxy_from.iter().any(|net| net.contains(from))
}

fn of_refusal(refused: Refused) -> Kind {
    match refused {
        Refused::ListenerFull => Kind::ListenerLimited,
        Refused::SourceFull | Refused::SourceTooFast | Refused::SiteFull | Refused::SiteTooFast => {
            Kind::SourceLimited
        }
    }
}

/// Serves one client until its end. `places` are the connection's in the bounds of the process
/// and of the listener.
pub(super) async fn live(
    shared: Rc<Shared>,
    door: Arc<Door>,
    socket: OwnedFd,
    from: SocketAddr,
    places: (Taken, Option<Admitted>),
) {
    if from.ip() == door.key.address.ip()
        && let Some(tell) = shared.totals.desk.take(from)
    {
        let proof = match Stream::new(socket, true) {
            Ok(client) => Box::pin(prove(&shared, &door, client, from)).await,
            Err(error) => Proof::Failed(error.to_string()),
        };
        // Whoever waits no longer needs no answer.
        drop(tell.send(proof));
        return;
    }
    let _counted = (places, door.flows.begin(), Inside::new(&door.standing));
    let entered = shared.roll.enter(from, door.key, Instant::now());
    let entry = &entered.entry;
    let fallen = Fallen { shared: &shared, entry };
    let end = match Stream::new(socket, true) {
        Ok(client) => serve(&shared, &door, client, entry).await,
        Err(error) => End::because(Kind::Starved, error.to_string()),
    };
    drop(fallen);
    // Another POP looks whether the ingress is there, several times a second, and says nothing.
    let said_nothing =
        matches!(end.kind, Kind::ClientLeft | Kind::ClientReset) && entry.service.get().is_none();
    if !(said_nothing && matches!(door.entrance, Entrance::Ingress)) {
        finish(&shared, entry, &end);
    }
}

/// Counts an end and logs it.
fn finish(shared: &Shared, entry: &Entry, end: &End) {
    let now = Instant::now();
    let tally = entry.service.get().and_then(|service| shared.tally(service));
    if let Some(tally) = &tally {
        tally.end(end.kind);
        tally.duration.observe(now.saturating_duration_since(entry.began));
    }
    log(shared, entry, end, now);
}

/// A panic ends one connection, as any other end does; the thread lives on, and the others with it.
struct Fallen<'c> {
    shared: &'c Shared,
    entry: &'c Entry,
}

impl Drop for Fallen<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            finish(self.shared, self.entry, &End::because(Kind::Fault, "a fault of ours, see the log"));
        }
    }
}

async fn serve(shared: &Rc<Shared>, door: &Door, client: Stream, entry: &Rc<Entry>) -> End {
    shared.serve();
    let speaks_for_others = speaks_for_others(door, entry.client.get().ip());
    let arrived = match &door.entrance {
        // Nothing to wait for, so nothing to wait no longer than.
        Entrance::Service(service) if !speaks_for_others => {
            Ok((at_once(service, Vec::new()), None, door.key.address))
        }
        // In a place of its own: what this needs, a connection that relays for hours does not.
        _ => {
            let arrival = listen_to(shared, door, &client, entry, speaks_for_others);
            Box::pin(in_time(shared, door.handshake, arrival)).await
        }
    };
    let (Arrived { service: name, mut first, tls, server_name, only }, _admitted, went_to) = match arrived {
        Ok(arrived) => arrived,
        // It was told why where its protocol has a word for that; then the orderly end.
        Err(end) => return end,
    };
    let _ = entry.service.set(Arc::clone(&name));
    let Some(tally) = shared.tally(&name) else {
        client.reset_on_drop();
        return End::of(Kind::NoBackend);
    };
    tally.connections.fetch_add(1, Ordering::Relaxed);
    let _open = Open::new(&tally);
    let service = shared.view.borrow().services.get(&name).map(Arc::clone);
    let Some(service) = service else {
        client.reset_on_drop();
        return End::because(Kind::NoBackend, "the service is not known yet");
    };
    let who = {
        let source = entry.client.get().ip();
        let located = shared.view.borrow().geo.as_ref().map(|geo| geo.locate(source)).unwrap_or_default();
        Client { source, country: located.country, region: located.region }
    };
    let Reached { stream: backend, index, place, why } =
        match reach(shared, &service, &tally, &who, &only).await {
            Ok(reached) => reached,
            Err(end) => {
                client.reset_on_drop();
                return end;
            }
        };
    let chosen = &service.backends[index];
    let carried = &chosen.live.carried;
    carried.connections.fetch_add(1, Ordering::Relaxed);
    entry.backend.replace(Some(Arc::clone(&chosen.id)));
    entry.why.set(Some(why));
    tally.reach.observe(entry.began.elapsed());
    let agreed = tls.as_ref().map(|arrival| &arrival.agreed);
    let introduced = Introduced { client: entry.client.get(), went_to, server_name, agreed };
    let pop = Arc::clone(&shared.plan.borrow().pop);
    if chosen.via_ingress {
        introduced.write_to_pop(&pop, &service.name, id_at_its_pop(&chosen.id), &mut first);
    } else {
        introduced.write(service.forwarding.send_proxy, &pop, &mut first);
    }
    let silence = Silence::new(shared, Rc::clone(entry), Arc::clone(&service), index);
    let relay = Relay::new(client, backend, first, silence);
    let outcome = match tls {
        None => relay.await,
        Some(Arrival { session, unopened, .. }) => relay.sealed(session, unopened).await,
    };
    drop(place);
    // It took the connection and did not serve it.
    if outcome.down == 0 && matches!(outcome.end, RelayEnd::Failed(Side::Backend, _)) {
        blame(shared, &service, index);
    }
    let (affinity, now) = (service.forwarding.affinity, shared.ms(Instant::now()));
    // Nobody stays with a backend that has not said a word.
    if let Some(ttl) = affinity.filter(|_| outcome.down > 0) {
        let source = Source::of(who.source);
        shared.totals.affinity().ended(&service.name, source, chosen.live.serial(), ttl, now);
    }
    entry.up.set(outcome.up);
    entry.down.set(outcome.down);
    tally.up.fetch_add(outcome.up, Ordering::Relaxed);
    tally.down.fetch_add(outcome.down, Ordering::Relaxed);
    carried.up.fetch_add(outcome.up, Ordering::Relaxed);
    carried.down.fetch_add(outcome.down, Ordering::Relaxed);
    of_relay(outcome, shared.is_leaving())
}

/// Takes a connection of our own as far as a client's would come.
async fn prove(shared: &Rc<Shared>, door: &Door, client: Stream, from: SocketAddr) -> Proof {
    let failed = |end: End| match end.kind {
        Kind::NoBackend => Proof::Nobody,
        // It has no certificate to show, and came as far as those who have none come.
        Kind::TlsRefused if end.words.contains("certificate") => Proof::Served,
        kind => Proof::Failed(format!("{} ({})", end.words, kind.name())),
    };
    let arrived = match in_time(shared, door.handshake, arrive(shared, door, &client, Vec::new(), None)).await
    {
        Ok(arrived) => arrived,
        Err(end) => return failed(end),
    };
    let service = shared.view.borrow().services.get(&arrived.service).map(Arc::clone);
    let (Some(service), Some(tally)) = (service, shared.tally(&arrived.service)) else {
        return Proof::Nobody;
    };
    let who = Client { source: from.ip(), country: None, region: None };
    match reach(shared, &service, &tally, &who, &Only::Anywhere).await {
        Ok(_) => Proof::Served,
        Err(end) => failed(end),
    }
}

/// What a client says before it is taken anywhere: who it is, its place at the door, and where it went.
async fn listen_to(
    shared: &Shared,
    door: &Door,
    client: &Stream,
    entry: &Entry,
    speaks_for_others: bool,
) -> Result<(Arrived, Option<Admitted>, SocketAddr), End> {
    let mut said = Vec::new();
    let mut admitted = None;
    let mut went_to = door.key.address;
    let (mut target, mut server_name) = (None, None);
    if speaks_for_others {
        let header = header(client, &mut said).await?;
        if let Some(source) = header.source.filter(|_| !header.local) {
            entry.client.set(source);
            went_to = header.destination.unwrap_or(went_to);
        }
        target = header.target;
        server_name = header.authority.filter(|_| target.is_some());
        let source = Some(entry.client.get().ip());
        admitted =
            admit(shared, door, source).map_err(|why| End::because(of_refusal(why), why.to_string()))?;
    }
    let mut arrived = arrive(shared, door, client, said, target).await?;
    arrived.server_name = arrived.server_name.or(server_name);
    Ok((arrived, admitted, went_to))
}

/// A backend failed a client.
pub(super) fn blame(shared: &Shared, service: &Service, index: usize) {
    let backend = &service.backends[index];
    backend.live.carried.failures.fetch_add(1, Ordering::Relaxed);
    let failed = ejection::failed(service, index, shared.ms(Instant::now()));
    if let Failed::Ejected(ejected) = failed {
        warn!(service = &*service.name, backend = &*backend.id, ?ejected.time, "ejected: it fails its clients");
    }
    if failed.wants_probe() {
        shared.totals.suspect(&service.name, &backend.id);
    }
}

fn of_relay(outcome: Outcome, is_leaving: bool) -> End {
    match outcome.end {
        RelayEnd::Finished => End::of(Kind::Finished),
        RelayEnd::Tls(error) => End::because(Kind::TlsRefused, error.to_string()),
        RelayEnd::Idle => End::of(Kind::Idle),
        RelayEnd::Drained => End::of(if is_leaving { Kind::Stopped } else { Kind::Drained }),
        RelayEnd::Overloaded => End::because(Kind::MemoryLimited, "proxy.memory is used up"),
        RelayEnd::Failed(Side::Client, error) => End::because(Kind::ClientReset, error.to_string()),
        RelayEnd::Failed(Side::Backend, error) if outcome.down == 0 => {
            End::because(Kind::BackendResetEarly, error.to_string())
        }
        RelayEnd::Failed(Side::Backend, error) => End::because(Kind::BackendReset, error.to_string()),
    }
}

/// Counts a connection as open at its service, until it is dropped.
struct Open<'t>(&'t Tally);

impl<'t> Open<'t> {
    fn new(tally: &'t Tally) -> Self {
        tally.open.fetch_add(1, Ordering::Relaxed);
        Self(tally)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection as open at its door, until it is dropped.
struct Inside<'d>(&'d Standing);

impl<'d> Inside<'d> {
    fn new(standing: &'d Standing) -> Self {
        standing.open.fetch_add(1, Ordering::Relaxed);
        Self(standing)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes an end to the access log, if it is one to be logged.
pub(super) fn log(shared: &Shared, entry: &Entry, end: &End, now: Instant) {
    let plan = shared.plan.borrow();
    let is_orderly = end.kind.is_orderly();
    match shared.sampler.wants(&plan.limits.access_log, is_orderly, plan.workers, now) {
        Some(true) => {}
        Some(false) => return,
        None => {
            shared.totals.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    let (backend, why) = (entry.backend.borrow(), entry.why.get());
    info!(
        target: "edgeproxy::access",
        client = %entry.client.get(),
        door = %entry.door,
        service = entry.service.get().map_or("-", |name| &**name),
        backend = backend.as_ref().map_or("-", |id| &**id),
        why = why.map_or("-", |why| why.how.name()),
        attempt = why.map(|why| why.attempt).filter(|attempt| *attempt > 1),
        after = why.and_then(|why| why.after).map(Kind::name),
        ms = now.saturating_duration_since(entry.began).as_millis() as u64,
        up = entry.up.get(),
        down = entry.down.get(),
        end = end.kind.name(),
        blame = end.kind.blame().map_or("nobody", |blame| blame.name()),
        "{}",
        end.words
    );
}
