//! A small BGP speaker that is only a neighbor: it stamps what it reads, keeps a table, and can misbehave on demand.

pub mod craft;
mod session;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnetwork::IpNetwork;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::bgp_stream::{Attributes, Event, Kind};
use crate::moment::Moment;

/// Events kept; what comes after is counted only.
const MAX_EVENTS: usize = 2_000_000;
/// A peer that does not read may not hold a writer longer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two attempts to dial, and the grain of stopping.
const REDIAL: Duration = Duration::from_millis(100);
const ACCEPT_POLL: Duration = Duration::from_millis(5);

/// Who the collector is.
#[derive(Debug, Clone)]
pub struct Options {
    pub asn: u32,
    pub router_id: Ipv4Addr,
    /// Seconds offered in OPEN; keepalives go out at a third of the smaller offer. 0: none.
    pub hold_s: u16,
    pub how: How,
    /// Outgoing TTL or hop limit (255 for GTSM); the system's own if `None`.
    pub ttl: Option<u32>,
    /// Answers nothing and sends nothing of its own: for tests that send every byte themselves.
    pub mute: bool,
}

/// Which side opens the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Waits on this address; port 0 takes any, see `Collector::address`.
    Listen(SocketAddr),
    /// Dials, from a given address or any, until it works, and again after an end.
    Dial { from: Option<IpAddr>, to: SocketAddr },
}

/// A route as the neighbor would hold it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub attributes: Attributes,
    /// When the UPDATE that made it so was read.
    pub since: Moment,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the collector cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the collector has no connection to send on")]
    NotConnected,
    #[error("the collector cannot send: {0}")]
    Send(#[source] io::Error),
    #[error("waited {waited_ms} ms for {what}; last seen: {last}")]
    Timeout { what: String, waited_ms: u128, last: String },
}

/// A running collector. Dropping it ends its threads and connections (with FIN).
#[derive(Debug)]
pub struct Collector {
    shared: Arc<Shared>,
    /// Where it listens, or whom it dials.
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    seen: Mutex<Seen>,
    changed: Condvar,
    /// The live connection, for writers. Not locked together with `seen`.
    connection: Mutex<Option<Arc<TcpStream>>>,
    stop: AtomicBool,
    paused: AtomicBool,
    /// The end of the present connection is the collector's own doing, and no event.
    closing: AtomicBool,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    left_out: u64,
    routes: BTreeMap<IpNetwork, Route>,
    /// When both OPENs and the peer's first KEEPALIVE of the present session were exchanged.
    established: Option<Moment>,
    sessions: u64,
}

impl Options {
    pub fn listen(asn: u32, router_id: Ipv4Addr, address: SocketAddr) -> Options {
        Options { asn, router_id, hold_s: 90, how: How::Listen(address), ttl: None, mute: false }
    }

    pub fn dial(asn: u32, router_id: Ipv4Addr, from: Option<IpAddr>, to: SocketAddr) -> Options {
        Options { asn, router_id, hold_s: 90, how: How::Dial { from, to }, ttl: None, mute: false }
    }
}

impl Collector {
    /// Starts in the calling thread's network namespace.
    pub fn start(options: Options) -> Result<Collector, Error> {
        let (listener, address) = match options.how {
            How::Listen(address) => {
                let failed = |source| Error::Listen { address, source };
                let listener = listen(address).map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                (Some(listener), bound)
            }
            How::Dial { to, .. } => (None, to),
        };
        let shared = Arc::new(Shared {
            options,
            seen: Mutex::default(),
            changed: Condvar::new(),
            connection: Mutex::default(),
            stop: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("collector".to_owned())
            .spawn(move || match listener {
                Some(listener) => accept_until_stopped(&for_thread, &listener),
                None => dial_until_stopped(&for_thread),
            })
            .map_err(|source| Error::Listen { address, source })?;
        Ok(Collector { shared, address, thread: Some(thread) })
    }

    /// Where it listens (with the port taken), or whom it dials.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_established(&self) -> bool {
        self.shared.lock().established.is_some()
    }

    /// Sessions that reached Established so far.
    pub fn sessions(&self) -> u64 {
        self.shared.lock().sessions
    }

    /// All events so far, in the order read. `from` is the peer; the collector's own messages are not among them.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    /// Looks at the events without copying them. Keep it short: reading waits meanwhile.
    pub fn look<T>(&self, with: impl FnOnce(&[Event]) -> T) -> T {
        with(&self.shared.lock().events)
    }

    /// Forgets events older than `before`; a long run would otherwise only grow.
    pub fn forget(&self, before: Moment) {
        self.shared.lock().events.retain(|event| event.at >= before);
    }

    /// What a router would hold now; emptied when the session ends.
    pub fn routes(&self) -> BTreeMap<IpNetwork, Route> {
        self.shared.lock().routes.clone()
    }

    /// Waits until the session is established; gives the moment.
    pub fn wait_established(&self, timeout: Duration) -> Result<Moment, Error> {
        self.wait("an established session", timeout, |seen| seen.established)
    }

    pub fn wait_announce(&self, prefix: IpNetwork, after: Moment, timeout: Duration) -> Result<Event, Error> {
        self.wait_event(&format!("an UPDATE with {prefix}"), after, timeout, |event| event.announces(prefix))
    }

    pub fn wait_withdraw(&self, prefix: IpNetwork, after: Moment, timeout: Duration) -> Result<Event, Error> {
        self.wait_event(&format!("a withdrawal of {prefix}"), after, timeout, |event| event.withdraws(prefix))
    }

    pub fn wait_notification(&self, after: Moment, timeout: Duration) -> Result<Event, Error> {
        self.wait_event("a NOTIFICATION", after, timeout, |event| matches!(event.kind, Kind::Notification(_)))
    }

    /// Waits for the end of the connection that the collector did not ask for: FIN, RST, or the hold timer.
    pub fn wait_closed(&self, after: Moment, timeout: Duration) -> Result<Event, Error> {
        self.wait_event("the end of the connection", after, timeout, |event| {
            matches!(event.kind, Kind::Closed { .. })
        })
    }

    /// Waits for the first event at `after` or later that `wanted` accepts.
    pub fn wait_event(
        &self,
        what: &str,
        after: Moment,
        timeout: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event, Error> {
        // Events are only appended while someone waits, so what was looked at is not looked at again.
        let mut looked_at = 0;
        self.wait(what, timeout, |seen| {
            let fresh = seen.events.get(looked_at..).unwrap_or(&seen.events);
            looked_at = seen.events.len();
            fresh.iter().find(|event| event.at >= after && wanted(event)).cloned()
        })
    }

    /// Sends these bytes as they are.
    pub fn send_raw(&self, bytes: &[u8]) -> Result<(), Error> {
        let connection = self.connection()?;
        (&*connection).write_all(bytes).map_err(Error::Send)
    }

    /// Asks for everything again (RFC 2918), once per family.
    pub fn send_route_refresh(&self, afi: u16) -> Result<(), Error> {
        self.send_raw(&craft::route_refresh(afi))
    }

    /// Reads nothing more until `resume_reading`: the peer's window closes.
    pub fn pause_reading(&self) {
        self.shared.paused.store(true, Ordering::Release);
    }

    pub fn resume_reading(&self) {
        self.shared.paused.store(false, Ordering::Release);
    }

    /// Ends the connection with RST. A dialling collector dials again.
    pub fn reset(&self) -> Result<(), Error> {
        let connection = self.connection()?;
        self.shared.closing.store(true, Ordering::Release);
        SockRef::from(&*connection).set_linger(Some(Duration::ZERO)).map_err(Error::Send)?;
        // Sends nothing, but wakes the reader, which closes the socket: with no linger that is a RST.
        connection.shutdown(Shutdown::Read).map_err(Error::Send)
    }

    /// Ends the session with a NOTIFICATION and FIN.
    pub fn close(&self, code: u8, subcode: u8) -> Result<(), Error> {
        self.send_raw(&craft::notification(code, subcode, &[]))?;
        self.shared.closing.store(true, Ordering::Release);
        self.connection()?.shutdown(Shutdown::Both).map_err(Error::Send)
    }

    /// Ends the threads and connections, and hands over all events.
    pub fn stop(mut self) -> Vec<Event> {
        self.end();
        std::mem::take(&mut self.shared.lock().events)
    }

    fn connection(&self) -> Result<Arc<TcpStream>, Error> {
        lock(&self.shared.connection).clone().ok_or(Error::NotConnected)
    }

    fn wait<T>(
        &self,
        what: &str,
        timeout: Duration,
        mut find: impl FnMut(&Seen) -> Option<T>,
    ) -> Result<T, Error> {
        let until = Moment::now() + timeout;
        let mut seen = self.shared.lock();
        loop {
            if let Some(found) = find(&seen) {
                return Ok(found);
            }
            let Some(left) = until.after(Moment::now()) else {
                let last = seen.events.last().map_or_else(|| "nothing".to_owned(), Event::to_string);
                return Err(Error::Timeout { what: what.to_owned(), waited_ms: timeout.as_millis(), last });
            };
            seen = self.shared.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.closing.store(true, Ordering::Release);
        if let Some(connection) = lock(&self.shared.connection).clone() {
            // Already closed is as good.
            let _ = connection.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(16)?;
    // A blocking accept cannot be woken; the timeout lets it look at the stop flag.
    socket.set_read_timeout(Some(ACCEPT_POLL))?;
    Ok(socket.into())
}

/// One session at a time: a second connection waits in the backlog until the first has ended.
fn accept_until_stopped(shared: &Arc<Shared>, listener: &TcpListener) {
    while !shared.is_stopping() {
        match listener.accept() {
            Ok((connection, _)) => session::run(shared, connection),
            Err(_) => thread::sleep(ACCEPT_POLL),
        }
    }
}

fn dial_until_stopped(shared: &Arc<Shared>) {
    let How::Dial { from, to } = shared.options.how else { return };
    while !shared.is_stopping() {
        if let Ok(connection) = dial(from, to, shared.options.ttl) {
            session::run(shared, connection);
        }
        if !shared.is_stopping() {
            thread::sleep(REDIAL);
        }
    }
}

fn dial(from: Option<IpAddr>, to: SocketAddr, ttl: Option<u32>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    set_ttl(&SockRef::from(&socket), to, ttl)?;
    socket.connect_timeout(&to.into(), Duration::from_secs(1))?;
    Ok(socket.into())
}

fn set_ttl(socket: &SockRef<'_>, peer: SocketAddr, ttl: Option<u32>) -> io::Result<()> {
    match ttl {
        None => Ok(()),
        Some(ttl) if peer.is_ipv4() => socket.set_ttl_v4(ttl),
        Some(ttl) => socket.set_unicast_hops_v6(ttl),
    }
}
