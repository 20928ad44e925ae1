//! What strangers do to a listener: more connections than anybody needs, handshakes that never end or never were any.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::Error;
use crate::moment::Moment;
use crate::sys::descriptors;
use crate::sys::namespace::give_way;
use forged::{Answers, Forged, Forgery};

pub mod forged;
mod hello;
pub mod replay;

/// Threads of one attack.
const THREADS: usize = 2;
/// How long a stranger waits for an answer or an end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the last forgeries wait for theirs.
const ANSWER: Duration = Duration::from_millis(250);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Connects and resets, each time from another address of this /64, which must lead to the attacker.
    Connects(Ipv6Addr),
    /// Half a ClientHello, and nothing more: the connection is held until the other side ends it.
    HalfHello,
    /// Octets that look like TLS more or less.
    Garbage,
    /// A ClientHello with a server name of 16,000 octets.
    LongName,
    /// A PROXY header that names somebody else as the client, by one who is not trusted to say so.
    Stranger,
    /// WireGuard handshakes of which only MAC1 is right.
    ForgedHandshakes(Forged),
}

/// What an attack came to.
#[derive(Debug, Default)]
struct Tally {
    stop: AtomicBool,
    begun: AtomicUsize,
    /// Attempts that are over.
    done: AtomicUsize,
    /// Attempts that were answered as if all were well.
    served: AtomicUsize,
    /// Attempts that were answered with a cookie.
    cookies: AtomicUsize,
}

/// One that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Attack {
    tally: Arc<Tally>,
    threads: Vec<JoinHandle<()>>,
}

/// How an attack goes.
#[derive(Debug, Clone)]
pub struct Plan {
    pub target: SocketAddr,
    pub kind: Kind,
    /// Attempts in all; of those that hold a connection, all at once.
    pub count: usize,
    /// Attempts in a second.
    pub rate: u32,
}

impl Attack {
    /// Starts in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the system has not enough descriptors or threads.
    pub fn start(plan: &Plan) -> Result<Self, Error> {
        if plan.kind == Kind::HalfHello {
            descriptors::allow(plan.count).map_err(Error::Descriptors)?;
        }
        let tally = Arc::new(Tally::default());
        let begun = Moment::now();
        let spawn = |_| {
            let (tally, plan) = (Arc::clone(&tally), plan.clone());
            let run = move || {
                // Strangers have processors of their own. Here they get what those leave whom they are to disturb.
                give_way();
                run(&tally, &plan, begun);
            };
            thread::Builder::new().name("attack".to_owned()).spawn(run).map_err(Error::Thread)
        };
        let threads = (0..THREADS).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { tally, threads })
    }

    /// Attempts that are over, and of them those that were answered as if all were well.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.tally.done.load(Ordering::Acquire), self.tally.served.load(Ordering::Acquire))
    }

    /// Attempts that were answered with a cookie, of those that are over.
    #[must_use]
    pub fn cookies(&self) -> usize {
        self.tally.cookies.load(Ordering::Acquire)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.tally.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn run(tally: &Tally, plan: &Plan, begun: Moment) {
    let mut held = Vec::new();
    let mut forgery = match &plan.kind {
        Kind::ForgedHandshakes(forged) => Some(Forgery::new(forged)),
        _ => None,
    };
    let stops = || tally.stop.load(Ordering::Acquire);
    loop {
        let index = tally.begun.fetch_add(1, Ordering::AcqRel);
        if index >= plan.count {
            break;
        }
        let due = begun + Duration::from_secs_f64(index as f64 / f64::from(plan.rate.max(1)));
        while let Some(early) = due.after(Moment::now()).filter(|_| !stops()) {
            thread::sleep(early.min(Duration::from_millis(20)));
        }
        if stops() {
            return;
        }
        if let Some(forgery) = &mut forgery {
            // A refusal is an attempt too.
            tally.answered(forgery.send(plan.target, index).unwrap_or_default());
            tally.done.fetch_add(1, Ordering::AcqRel);
            continue;
        }
        match attempt(plan, index) {
            Ok(Came::Held(stream)) => held.push(stream),
            Ok(Came::Served) => {
                tally.served.fetch_add(1, Ordering::AcqRel);
                tally.done.fetch_add(1, Ordering::AcqRel);
            }
            // However it was ended: a stranger has no right to better words.
            Ok(Came::Ended) | Err(_) => drop(tally.done.fetch_add(1, Ordering::AcqRel)),
        }
    }
    if let Some(forgery) = &mut forgery {
        thread::sleep(ANSWER);
        tally.answered(forgery.rest());
    }
    while !held.is_empty() && !stops() {
        let before = held.len();
        held.retain(|stream: &TcpStream| matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock));
        tally.done.fetch_add(before - held.len(), Ordering::AcqRel);
        thread::sleep(Duration::from_millis(20));
    }
}

impl Tally {
    fn answered(&self, answers: Answers) {
        self.served.fetch_add(answers.responses, Ordering::AcqRel);
        self.cookies.fetch_add(answers.cookies, Ordering::AcqRel);
    }
}

enum Came {
    Ended,
    Served,
    Held(TcpStream),
}

fn attempt(plan: &Plan, index: usize) -> io::Result<Came> {
    let mut stream = match plan.kind {
        Kind::Connects(net) => {
            let stream = connect(plan.target, Some(IpAddr::V6(inside(net, index))))?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Ok(Came::Ended);
        }
        _ => connect(plan.target, None)?,
    };
    match plan.kind {
        Kind::Connects(_) | Kind::ForgedHandshakes(_) => Ok(Came::Ended),
        Kind::HalfHello => {
            let hello = hello::with_name("www.example.net");
            stream.write_all(&hello[..hello.len() / 2])?;
            stream.set_nonblocking(true)?;
            Ok(Came::Held(stream))
        }
        Kind::Garbage => {
            stream.write_all(&hello::garbage(index as u64))?;
            ends(stream)
        }
        Kind::LongName => {
            stream.write_all(&hello::with_name(&"a.".repeat(8_000)))?;
            ends(stream)
        }
        Kind::Stranger => {
            let header = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 8001\r\n";
            stream.write_all(header)?;
            let mut got = [0; 47];
            stream.read_exact(&mut got[..header.len()])?;
            // Whoever is not trusted has said this to the backend, and the backend sends it back.
            Ok(if got[..header.len()] == header[..] { Came::Ended } else { Came::Served })
        }
    }
}

/// Reads to the end; a ServerHello before it is an answer as if all were well.
fn ends(mut stream: TcpStream) -> io::Result<Came> {
    let mut got = Vec::new();
    let end = (&mut stream).take(16 << 10).read_to_end(&mut got);
    // A record of type handshake (RFC 8446 §5.1).
    if got.first() == Some(&22) {
        return Ok(Came::Served);
    }
    end.map(|_| Came::Ended)
}

fn connect(target: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = from {
        socket.set_freebind_v6(true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.connect_timeout(&target.into(), PATIENCE)?;
    Ok(socket.into())
}

/// Another address of a /64 each time.
fn inside(net: Ipv6Addr, index: usize) -> Ipv6Addr {
    let host = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Ipv6Addr::from(u128::from(net) & (u128::MAX << 64) | u128::from(host))
}
