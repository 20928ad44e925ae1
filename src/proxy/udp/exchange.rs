//! One door's datagrams at one worker: up to the backends of their flows, and down to their clients.
#![expect(clippy::disallowed_methods, reason = "driver: owns the sockets of a door and of its flows")]

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use super::datagrams::Reason;
use super::flow::Flow;
use super::home::{self, Home};
use super::preface;
use super::table::{FlowKey, Table};
use crate::catalog::select::{self, Client};
use crate::catalog::service::Service;
use crate::config::services::SendProxy;
use crate::proxy::connection;
use crate::proxy::end::{End, Kind};
use crate::proxy::plan::{Door, Entrance};
use crate::proxy::source::Source;
use crate::proxy::why::{How, Why};
use crate::proxy::worker::Shared;
use crate::supervise::local::LocalTask;
use crate::sys::datagram::{self, Batch, INTEREST, MOST};

/// The most attempts that a configuration may ask for, and the backend that is shunned.
const MOST_TRIED: usize = 17;
/// Flows that end in one go before others have their turn.
const MOST_ENDS: usize = 64;

/// What the tasks of one door at one worker share.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) shared: Rc<Shared>,
    pub(super) door: RefCell<Arc<Door>>,
    pub(super) listener: AsyncFd<OwnedFd>,
    table: RefCell<Table<Flow>>,
    service: RefCell<Option<Arc<Service>>>,
    /// Counts the snapshots of the service.
    epoch: Cell<u32>,
}

/// Datagrams of one client that came in a row.
struct Run<'b> {
    batch: &'b Batch,
    which: Range<usize>,
    client: SocketAddr,
    now: Instant,
}

impl Exchange {
    pub(super) fn new(shared: Rc<Shared>, door: Arc<Door>, listener: AsyncFd<OwnedFd>) -> Self {
        Self {
            shared,
            door: RefCell::new(door),
            listener,
            table: RefCell::default(),
            service: RefCell::default(),
            epoch: Cell::new(0),
        }
    }

    /// Takes one batch from the clients. Says whether there may be more.
    pub(super) fn take(self: &Rc<Self>) -> io::Result<bool> {
        let mut batch = self.shared.batch.borrow_mut();
        let count = batch.receive(self.listener.get_ref().as_fd())?;
        let now = Instant::now();
        let door = self.door.borrow().clone();
        let service = self.look(&door);
        let mut from = 0;
        while from < count {
            let sender = batch.sender(from);
            let same = (from..count).take_while(|at| batch.sender(*at) == sender).count();
            let which = from..from + same;
            from = which.end;
            match sender {
                Some(client) => {
                    let run = Run { batch: &batch, which, client, now };
                    self.carry(&door, service.as_deref(), run);
                }
                None => door.standing.datagrams.drop(Reason::Strange, same),
            }
        }
        Ok(count == MOST)
    }

    /// The newest snapshot of the service.
    fn look(&self, door: &Door) -> Option<Arc<Service>> {
        // Only the beginning of a stream can name a service.
        let Entrance::Service(name) = &door.entrance else { return None };
        let newest = self.shared.view.borrow().services.get(name).map(Arc::clone);
        let mut known = self.service.borrow_mut();
        let is_same = match (&newest, &*known) {
            (Some(newest), Some(known)) => Arc::ptr_eq(newest, known),
            (None, None) => true,
            _ => false,
        };
        if !is_same {
            known.clone_from(&newest);
            self.epoch.set(self.epoch.get().wrapping_add(1));
        }
        newest
    }

    fn carry(self: &Rc<Self>, door: &Door, service: Option<&Service>, mut run: Run<'_>) {
        let counts = &door.standing.datagrams;
        let Some(service) = service else {
            return counts.drop(Reason::NoBackend, run.which.len());
        };
        let mut table = self.table.borrow_mut();
        let known = table.find(&run.client);
        let key = match known.map_or_else(|| self.begin(&mut table, door, service, &run), Ok) {
            Ok(key) => key,
            Err(reason) => return counts.drop(reason, run.which.len()),
        };
        table.touch(key, run.now);
        let flow = table.get_mut(key).expect("it was found or made just now");
        if flow.epoch != self.epoch.get() {
            flow.epoch = self.epoch.get();
            // Removed, or down: the flow goes elsewhere, and the backend is not blamed for it again.
            if flow.home.as_mut().is_some_and(|home| !home.tenancy.lasts(service)) {
                flow.home = None;
            }
        }
        if let Err(reason) = self.send(door, service, flow, key, &mut run) {
            counts.drop(reason, run.which.len());
            // Without a backend it would only take up room.
            let gone = if flow.home.is_none() { table.remove(key) } else { None };
            if let Some(flow) = gone {
                let kind = match reason {
                    Reason::Unreachable => Kind::BackendUnreachable,
                    Reason::Starved => Kind::Starved,
                    _ => Kind::NoBackend,
                };
                flow.end(&self.shared, &End::of(kind), run.now);
            }
        }
    }

    fn begin(
        &self,
        table: &mut Table<Flow>,
        door: &Door,
        service: &Service,
        run: &Run<'_>,
    ) -> Result<FlowKey, Reason> {
        let begin = || Flow::begin(&self.shared, door, &service.name, run.client, run.now);
        let flow = match begin() {
            // Whoever is over its time makes room; nobody else does.
            Err(Reason::Limited | Reason::Crowded | Reason::Overloaded)
                if self.evict(table, service, run.now) =>
            {
                begin()
            }
            other => other,
        };
        flow.map(|flow| table.insert(run.client, flow, run.now))
    }

    /// Sends a run to the flow's backend, or to another when that is not there. What is left of the run was not sent.
    fn send(
        self: &Rc<Self>,
        door: &Door,
        service: &Service,
        flow: &mut Flow,
        key: FlowKey,
        run: &mut Run<'_>,
    ) -> Result<(), Reason> {
        let counts = &door.standing.datagrams;
        let mut moves = 0;
        while !run.which.is_empty() {
            if flow.home.is_none() {
                if moves > service.forwarding.attempts {
                    return Err(Reason::Unreachable);
                }
                moves += 1;
                self.settle(door, service, flow, key, run)?;
            }
            let home = flow.home.as_mut().expect("it has one, or has just moved in");
            let sent = match &home.preface {
                Some(header) => {
                    let parts = [IoSlice::new(header), IoSlice::new(run.batch.datagram(run.which.start))];
                    SockRef::from(&home.socket()).send_vectored(&parts).map(|_| 1)
                }
                None => run.batch.send(home.socket(), run.which.clone(), None),
            };
            match sent {
                Ok(count) => {
                    home.preface = None;
                    let octets = run.batch.octets(run.which.start..run.which.start + count);
                    run.which.start += count;
                    counts.up.add(count, octets);
                    flow.went_up(octets, run.now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Reason::Blocked),
                // The error is about an earlier datagram, and this one was not sent (udp(7)).
                Err(error) if home::is_away(&error) => flow.flee(&self.shared, service),
                Err(error) => {
                    let reason = if home::is_starved(&error) { Reason::Starved } else { Reason::Unsendable };
                    counts.drop(reason, 1);
                    run.which.start += 1;
                }
            }
        }
        Ok(())
    }

    /// Finds a backend for a flow, and opens a socket to it.
    fn settle(
        self: &Rc<Self>,
        door: &Door,
        service: &Service,
        flow: &mut Flow,
        key: FlowKey,
        run: &Run<'_>,
    ) -> Result<(), Reason> {
        let source = run.client.ip();
        let (region, located) = {
            let view = self.shared.view.borrow();
            (view.region.clone(), view.geo.as_ref().map(|geo| geo.locate(source)).unwrap_or_default())
        };
        let who = Client { source, country: located.country, region: located.region };
        let ms = self.shared.ms(run.now);
        let affinity = self.shared.totals.affinity();
        let mut tried = [0; MOST_TRIED];
        let mut count = 0;
        if let Some(shunned) = flow.shunned.and_then(|serial| service.position(serial)) {
            tried[0] = shunned;
            count = 1;
        }
        let mut is_spared = count == 1;
        let mut last = Reason::NoBackend;
        // Whom it fled was an attempt too.
        let (mut attempt, mut after) = if count == 0 { (0, None) } else { (1, Some(Kind::BackendRefused)) };
        for _ in 0..(service.forwarding.attempts as usize).clamp(1, MOST_TRIED - 1) {
            let dice = self.shared.dice();
            let choose = |tried: &[usize]| select::select(service, &region, &who, tried, run.now, ms, dice);
            let bound = || {
                let serial =
                    affinity.find(&service.name, Source::of(source), service.forwarding.affinity?, ms)?;
                let index = service.position(serial)?;
                Some((index, select::take_bound(service, index, ms).ok()?))
            };
            // Whoever was refused has no use for the one that it was bound to.
            let bound = if count == 0 { bound() } else { None };
            let is_bound = bound.is_some();
            attempt += 1;
            let chosen = match bound.map_or_else(|| choose(&tried[..count]), Ok) {
                // The one that refused may be back; better than nobody.
                Err(_) if is_spared => {
                    (is_spared, count) = (false, 0);
                    choose(&[])
                }
                chosen => chosen,
            };
            let (index, place) = chosen.map_err(|_| last)?;
            let backend = &service.backends[index];
            match home::connect(backend.address).and_then(datagram::watch) {
                Ok(socket) => {
                    let socket = Rc::new(socket);
                    let replies = replies(Rc::clone(self), key, run.client, Rc::clone(&socket));
                    let preface = (service.forwarding.send_proxy == SendProxy::V2)
                        .then(|| preface::header(run.client, door.key.address));
                    let replies = LocalTask::spawn(replies);
                    let why = Why { how: How::of(&place, is_bound), attempt, after };
                    let home = Home::new(backend, index, place, socket, replies, preface);
                    flow.settle(home, &backend.id, why);
                    if service.forwarding.affinity.is_some() {
                        affinity.bind(&service.name, Source::of(source), backend.live.serial(), ms);
                    }
                    return Ok(());
                }
                // Another backend would need the same.
                Err(error) if home::is_starved(&error) => return Err(Reason::Starved),
                Err(_) => {
                    connection::blame(&self.shared, service, index);
                    last = Reason::Unreachable;
                    after = Some(Kind::BackendUnreachable);
                    tried[count] = index;
                    count += 1;
                }
            }
        }
        Err(last)
    }

    /// Sends what the backend said to the client, from the address that the client knows.
    fn answer(&self, key: FlowKey, client: SocketAddr, batch: &Batch) {
        let now = Instant::now();
        let mut table = self.table.borrow_mut();
        let Some(flow) = table.get_mut(key) else { return };
        let service = self.service.borrow();
        flow.came_down(&self.shared, service.as_deref(), batch.octets(0..batch.count()), now);
        table.touch(key, now);
        let door = self.door.borrow();
        let counts = &door.standing.datagrams;
        let mut left = 0..batch.count();
        while !left.is_empty() {
            match batch.send(self.listener.get_ref().as_fd(), left.clone(), Some(client)) {
                Ok(count) => {
                    counts.down.add(count, batch.octets(left.start..left.start + count));
                    left.start += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return counts.drop(Reason::Blocked, left.len());
                }
                Err(_) => {
                    counts.drop(Reason::Unsendable, 1);
                    left.start += 1;
                }
            }
        }
    }

    /// Takes one batch from a flow's backend. Says whether there may be more; None: not from this backend.
    fn hear(&self, key: FlowKey, client: SocketAddr, socket: &AsyncFd<OwnedFd>) -> Option<bool> {
        let mut batch = self.shared.batch.borrow_mut();
        match batch.receive(socket.get_ref().as_fd()) {
            Ok(count) => {
                self.answer(key, client, &batch);
                Some(count == MOST)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(false),
            // The flow's next datagram finds another.
            Err(error) if home::is_away(&error) => {
                let service = self.look(&self.door.borrow());
                if let Some(service) = service
                    && let Some(flow) = self.table.borrow_mut().get_mut(key)
                {
                    flow.flee(&self.shared, &service);
                }
                None
            }
            // About the path's MTU and the like: the kernel took note of it.
            Err(_) => Some(true),
        }
    }

    /// Ends flows that have been still for too long. Says whether there may be more.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let Some(service) = self.look(&self.door.borrow()) else { return false };
        let mut table = self.table.borrow_mut();
        (0..MOST_ENDS).all(|_| self.evict(&mut table, &service, now))
    }

    fn evict(&self, table: &mut Table<Flow>, service: &Service, now: Instant) -> bool {
        let idle: Duration = service.forwarding.timeouts.udp_idle;
        let Some(flow) = table.take_idle(now, idle) else { return false };
        if let Some(home) = &flow.home
            && let Some(ttl) = service.forwarding.affinity
        {
            let (source, ms) = (Source::of(flow.source()), self.shared.ms(now));
            self.shared.totals.affinity().ended(&service.name, source, home.tenancy.serial(), ttl, ms);
        }
        // A flow has no other end than silence.
        flow.end(&self.shared, &End::of(Kind::Finished), now);
        true
    }

    /// Ends all flows: without the listener nobody could be answered.
    pub(super) fn close(&self) {
        let mut table = self.table.take();
        let now = Instant::now();
        while let Some(flow) = table.take_idle(now, Duration::ZERO) {
            flow.end(&self.shared, &End::because(Kind::Drained, "its listener was closed"), now);
        }
    }
}

/// Waits for what one flow's backend says, for as long as the flow lives there.
async fn replies(it: Rc<Exchange>, key: FlowKey, client: SocketAddr, socket: Rc<AsyncFd<OwnedFd>>) {
    loop {
        let Ok(mut guard) = socket.ready(INTEREST).await else { return };
        match it.hear(key, client, &socket) {
            Some(true) => {
                drop(guard);
                yield_now().await;
            }
            Some(false) => guard.clear_ready(),
            None => return,
        }
    }
}
