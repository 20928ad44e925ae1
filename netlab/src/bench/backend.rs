//! The backend behind every proxy of a bench: one thread, one epoll, as little work for each octet as can be.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::cores;
use super::frame::{Ask, Check, FRAME, PATTERN, pattern};
use crate::namespace::Namespace;
use crate::sys::namespace as sys;

/// Where it listens, on every address of the namespace.
pub const PORT: u16 = 7000;
const BACKLOG: i32 = 4096;
/// How often it looks whether it is told to stop.
const LOOK_MS: u16 = 100;
/// How much is thrown away with one call.
pub(super) const GULP: usize = 1 << 20;
const LISTENER: u64 = u64::MAX;

/// What went through, for loads that only see ciphertext or only send.
#[derive(Debug, Default)]
pub struct Counters {
    /// Octets of bulk written.
    pub sent: AtomicU64,
    /// Octets of bulk read.
    pub received: AtomicU64,
    /// Uploads that did not begin with the pattern.
    pub spoiled: AtomicU64,
}

/// The running backend; dropping it ends it.
#[derive(Debug)]
pub struct Backend {
    pub counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Listens inside the namespace and serves, bound to a processor.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start(namespace: &Namespace, cpu: usize) -> io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = namespace.run(|| Server::new(Arc::clone(&counters), Arc::clone(&stop)))??;
        let inside = namespace.clone();
        let serve = move || {
            // Best effort: the listener is in the namespace already, whatever the thread is in.
            let _ = sys::enter(inside.descriptor());
            let _ = cores::pin(cpu);
            server.serve();
        };
        let thread = thread::Builder::new().name("backend".to_owned()).spawn(serve)?;
        Ok(Self { counters, stop, thread: Some(thread) })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    epoll: Epoll,
    listener: TcpListener,
    /// By token; the free places are in `free`.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    buffer: Vec<u8>,
    waste: Vec<MaybeUninit<u8>>,
}

struct Connection {
    stream: TcpStream,
    watched: EpollFlags,
    doing: Doing,
}

enum Doing {
    /// Frames: what of the next one has come, and what of answers has not gone.
    Frames {
        partial: Vec<u8>,
        unsent: Vec<u8>,
        last: bool,
    },
    Downloading {
        at: usize,
    },
    Uploading {
        check: Check,
    },
}

/// Whether a connection goes on.
enum Go {
    On,
    Writing,
    Over,
}

impl Server {
    fn new(counters: Arc<Counters>, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        // Made now, not at the first download.
        let _ = pattern();
        Ok(Self {
            epoll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            counters,
            stop,
            buffer: vec![0; 64 << 10],
            waste: vec![MaybeUninit::uninit(); GULP],
        })
    }

    fn serve(&mut self) {
        let mut events = [EpollEvent::empty(); 256];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::from(LOOK_MS)) else { continue };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.accept(),
                    token => self.serve_one(token as usize),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let token = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            if self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token as u64)).is_err() {
                self.free.push(token);
                continue;
            }
            let doing = Doing::Frames { partial: Vec::new(), unsent: Vec::new(), last: false };
            self.connections[token] = Some(Connection { stream, watched: EpollFlags::EPOLLIN, doing });
        }
    }

    fn serve_one(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) else { return };
        let done = match connection.doing {
            Doing::Frames { .. } => connection.frames(&mut self.buffer),
            Doing::Downloading { .. } => connection.download(&self.counters),
            Doing::Uploading { .. } => connection.upload(&mut self.buffer, &mut self.waste, &self.counters),
        };
        let wanted = match done {
            // A peer that went away is no fault of the backend's: the load judges.
            Ok(Go::Over) | Err(_) => {
                self.connections[token] = None;
                self.free.push(token);
                return;
            }
            Ok(Go::On) if matches!(connection.doing, Doing::Downloading { .. }) => EpollFlags::EPOLLOUT,
            Ok(Go::On) => EpollFlags::EPOLLIN,
            Ok(Go::Writing) => EpollFlags::EPOLLOUT,
        };
        if wanted != connection.watched {
            connection.watched = wanted;
            let event = &mut EpollEvent::new(wanted, token as u64);
            let _ = self.epoll.modify(connection.stream.as_fd(), event);
        }
    }
}

impl Connection {
    fn frames(&mut self, buffer: &mut [u8]) -> io::Result<Go> {
        let Doing::Frames { partial, unsent, last } = &mut self.doing else { return Ok(Go::On) };
        if !unsent.is_empty() {
            let Some(sent) = again(self.stream.write(unsent))? else { return Ok(Go::Writing) };
            unsent.drain(..sent);
            if !unsent.is_empty() {
                return Ok(Go::Writing);
            }
            if *last {
                return Ok(Go::Over);
            }
        }
        let Some(read) = again(self.stream.read(buffer))? else { return Ok(Go::On) };
        if read == 0 {
            return Ok(Go::Over);
        }
        // The usual case copies nothing: whole frames, straight back.
        let owned;
        let octets: &[u8] = if partial.is_empty() {
            &buffer[..read]
        } else {
            partial.extend_from_slice(&buffer[..read]);
            owned = std::mem::take(partial);
            &owned
        };
        let whole = octets.len() / FRAME * FRAME;
        let mut answered = 0;
        for frame in octets[..whole].chunks_exact(FRAME) {
            match Ask::of(frame[0]) {
                Some(Ask::Keep) => answered += FRAME,
                Some(Ask::Close) => {
                    answered += FRAME;
                    *last = true;
                    break;
                }
                Some(Ask::Download) => {
                    self.doing = Doing::Downloading { at: 0 };
                    return Ok(Go::On);
                }
                Some(Ask::Upload) => {
                    let mut check = Check::default();
                    let rest = &octets[answered + FRAME..];
                    if !check.takes(rest) {
                        return Ok(Go::Over);
                    }
                    self.doing = Doing::Uploading { check };
                    return Ok(Go::On);
                }
                // Not ours: whoever it is, it is told so by the end.
                None => return Ok(Go::Over),
            }
        }
        if !*last {
            partial.extend_from_slice(&octets[whole..]);
        }
        let sent =
            if answered == 0 { 0 } else { again(self.stream.write(&octets[..answered]))?.unwrap_or(0) };
        if sent < answered {
            unsent.extend_from_slice(&octets[sent..answered]);
            return Ok(Go::Writing);
        }
        Ok(if *last { Go::Over } else { Go::On })
    }

    fn download(&mut self, counters: &Counters) -> io::Result<Go> {
        let Doing::Downloading { at } = &mut self.doing else { return Ok(Go::On) };
        // A few writes a turn: others want theirs too.
        for _ in 0..4 {
            let Some(sent) = again(self.stream.write(&pattern()[*at..]))? else { break };
            *at = (*at + sent) % PATTERN;
            counters.sent.fetch_add(sent as u64, Ordering::Relaxed);
        }
        Ok(Go::On)
    }

    fn upload(
        &mut self,
        buffer: &mut [u8],
        waste: &mut [MaybeUninit<u8>],
        counters: &Counters,
    ) -> io::Result<Go> {
        let Doing::Uploading { check } = &mut self.doing else { return Ok(Go::On) };
        let read = if check.is_over() {
            again(discard(&self.stream, waste))?
        } else {
            let read = again(self.stream.read(buffer))?;
            if !check.takes(&buffer[..read.unwrap_or(0)]) {
                counters.spoiled.fetch_add(1, Ordering::Relaxed);
                return Ok(Go::Over);
            }
            read
        };
        counters.received.fetch_add(read.unwrap_or(0) as u64, Ordering::Relaxed);
        Ok(if read == Some(0) { Go::Over } else { Go::On })
    }
}

/// Reads without copying: TCP drops what it would have copied (tcp(7), `MSG_TRUNC`).
pub(super) fn discard(stream: &TcpStream, waste: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    SockRef::from(stream).recv_with_flags(waste, libc::MSG_TRUNC)
}

/// `None` when the socket has nothing, or takes nothing.
pub(super) fn again(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
