//! Behaviours of a path through the proxy, tried with both of its ends in hand: a client's socket and a backend's.

mod carriage;
mod endings;
mod pattern;
mod race;
mod refusal;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

pub use race::Race;

use crate::namespace::Namespace;
use crate::scenario::{End, Shows};

/// How long anything that must happen may take; both cores may be busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a client says first, so that its connection is known at the backend among those of others.
const TOKEN: usize = 16;
/// How long a connection at the backend may be silent before it counts as somebody else's.
const STRANGER: Duration = Duration::from_millis(500);

/// Where a client dials, and where the backend of that service listens.
#[derive(Debug, Clone)]
pub struct Path {
    pub client: Namespace,
    pub to: SocketAddr,
    pub server: Namespace,
    pub at: SocketAddr,
}

/// One connection through the proxy.
#[derive(Debug)]
struct Ends {
    client: TcpStream,
    server: TcpStream,
}

/// A backend that takes connections for as long as it is held.
#[derive(Debug)]
struct Backend<'p> {
    path: &'p Path,
    listener: TcpListener,
    dialled: u64,
}

/// Tries one behaviour.
///
/// # Errors
/// What was seen instead, in words.
pub fn shows(path: &Path, what: &Shows) -> Result<(), String> {
    let done = match what {
        Shows::HalfClose(by) => endings::half_close(path, *by),
        Shows::Reset(by) => endings::reset(path, *by),
        Shows::ResetWhileFull(by) => endings::reset_while_full(path, *by),
        Shows::SlowReader(who) => carriage::slow_reader(path, *who),
        Shows::SpeaksFirst => carriage::speaks_first(path),
        Shows::Integrity { megabytes } => carriage::integrity(path, *megabytes),
        Shows::SingleOctets { octets } => carriage::single_octets(path, *octets),
        Shows::Refused => refusal::refused(path),
    };
    done.map_err(|error| error.to_string())
}

impl Path {
    /// A client's connection; the proxy's kernel has answered.
    fn dial(&self) -> io::Result<TcpStream> {
        let stream = self.client.run(|| TcpStream::connect_timeout(&self.to, PATIENCE))?;
        let stream = stream.map_err(|error| told(&error, &format!("cannot connect to {}", self.to)))?;
        patient(stream)
    }

    fn backend(&self) -> io::Result<Backend<'_>> {
        let listener = self.server.run(|| listen(self.at))?;
        let listener = listener.map_err(|error| told(&error, &format!("cannot listen on {}", self.at)))?;
        Ok(Backend { path: self, listener, dialled: 0 })
    }
}

impl Backend<'_> {
    /// A connection through the proxy: both ends of the same one.
    fn connect(&mut self) -> io::Result<Ends> {
        let mut client = self.path.dial()?;
        self.dialled += 1;
        let mut token = [0; TOKEN];
        token[..8].copy_from_slice(b"lab-ends");
        token[8..].copy_from_slice(&self.dialled.to_be_bytes());
        client.write_all(&token)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let mut server = self.accept(until)?;
            let mut said = [0; TOKEN];
            server.set_read_timeout(Some(STRANGER))?;
            if server.read_exact(&mut said).is_ok() && said == token {
                return Ok(Ends { client, server: patient(server)? });
            }
        }
    }

    fn accept(&self, until: Instant) -> io::Result<TcpStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return patient(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::other("the proxy opened no connection to the backend"));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Ends {
    /// The end that acts, and the other.
    fn from(&mut self, by: End) -> (&mut TcpStream, &mut TcpStream) {
        match by {
            End::Client => (&mut self.client, &mut self.server),
            End::Backend => (&mut self.server, &mut self.client),
        }
    }

    /// The same, for keeps.
    fn into_from(self, by: End) -> (TcpStream, TcpStream) {
        match by {
            End::Client => (self.client, self.server),
            End::Backend => (self.server, self.client),
        }
    }

    /// A question and its echo, both ways at once.
    fn talk(&mut self) -> io::Result<()> {
        for by in [End::Client, End::Backend] {
            let (one, other) = self.from(by);
            one.write_all(b"are you there")?;
            expect(other, b"are you there")?;
        }
        Ok(())
    }
}

/// Closing it is a RST from now on.
fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Reads exactly that.
fn expect(stream: &mut TcpStream, wanted: &[u8]) -> io::Result<()> {
    let mut got = vec![0; wanted.len()];
    stream.read_exact(&mut got).map_err(|error| told(&error, "what was sent did not come"))?;
    if got == wanted { Ok(()) } else { Err(io::Error::other("something else came than was sent")) }
}

/// The next read finds the end of the stream.
fn expect_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 64]) {
        Ok(0) => Ok(()),
        Ok(count) => Err(io::Error::other(format!("{count} octets came after the last one"))),
        Err(error) => Err(told(&error, "no orderly end came")),
    }
}

/// A RST comes, whether or not octets wait before it.
fn expect_reset(stream: &TcpStream) -> io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        // An orderly end leaves no error: only a RST does.
        if let Some(error) = stream.take_error()? {
            return match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(told(&error, "it did not end by a RST")),
            };
        }
        if Instant::now() >= until {
            return Err(io::Error::other("no RST came"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn patient(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn told(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
