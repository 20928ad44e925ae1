//! The connections of a service: one thread and one epoll, so that thousands of idle ones cost nothing and a kill is quick.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Protocol, Socket, Type};

use super::http;
use super::order::Order;

/// Connections at once; more wait in the listen queue.
pub(super) const MAX_CONNECTIONS: usize = 16_000;
const BACKLOG: i32 = 4096;
/// The token of the descriptor that the caller asked to watch besides.
const CONTROL: u64 = 0;

/// A TCP or HTTP server that does as it is told.
#[derive(Debug)]
pub struct Server {
    // Before everything else: a killed process closes its descriptors in the order of their numbers,
    // and nobody who sees a connection end may still find the door open.
    listeners: BTreeMap<u64, TcpListener>,
    epoll: Epoll,
    name: String,
    addresses: Vec<SocketAddr>,
    /// A plain TCP service sends back what it reads.
    http: bool,
    connections: BTreeMap<u64, Connection>,
    /// Answers that wait for their time, by it and the connection.
    late: BTreeMap<(Instant, u64), http::Head>,
    next_token: u64,
    status: u16,
    hang: bool,
    cut: bool,
    delay: Duration,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Server {
    /// Listens at once. The addresses need not exist yet.
    ///
    /// # Errors
    /// When an address is taken.
    pub fn new(name: &str, http: bool, addresses: &[SocketAddr]) -> io::Result<Self> {
        let mut server = Self {
            listeners: BTreeMap::new(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            name: name.to_owned(),
            addresses: addresses.to_vec(),
            http,
            connections: BTreeMap::new(),
            late: BTreeMap::new(),
            next_token: CONTROL + 1,
            status: 200,
            hang: false,
            cut: false,
            delay: Duration::ZERO,
        };
        server.listen()?;
        Ok(server)
    }

    /// Does as told.
    ///
    /// # Errors
    /// When an address cannot be listened on again.
    pub fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Refuse(true) => {
                self.listeners.clear();
                self.connections.clear();
                self.late.clear();
            }
            Order::Refuse(false) if self.listeners.is_empty() => self.listen()?,
            Order::Refuse(false) => {}
            Order::Status(status) => self.status = status,
            Order::Cut(cut) => self.cut = cut,
            Order::Hang(hang) => self.hang = hang,
            Order::Delay(delay) => self.delay = delay,
        }
        Ok(())
    }

    /// Serves until `control` has something to read (or has ended).
    ///
    /// # Errors
    /// The kernel's; what a client does is never an error.
    pub fn serve_until(&mut self, control: impl AsFd) -> io::Result<()> {
        self.epoll.add(&control, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL))?;
        let done = self.serve();
        self.epoll.delete(&control)?;
        done
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            self.send_late();
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut told = false;
            for event in &events[..count] {
                match event.data() {
                    CONTROL => told = true,
                    token if self.listeners.contains_key(&token) => self.accept(token),
                    token => self.read(token),
                }
            }
            if told {
                return Ok(());
            }
        }
    }

    /// Until the next late answer, rounded up: epoll counts in milliseconds.
    fn patience(&self) -> EpollTimeout {
        let Some((&(at, _), _)) = self.late.first_key_value() else { return EpollTimeout::NONE };
        let left = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        EpollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX))
    }

    fn listen(&mut self) -> io::Result<()> {
        for &address in &self.addresses {
            let listener = listener(address).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })?;
            self.epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, self.next_token))?;
            self.listeners.insert(self.next_token, listener);
            self.next_token += 1;
        }
        Ok(())
    }

    fn accept(&mut self, listener: u64) {
        while self.connections.len() < MAX_CONNECTIONS {
            let Some(listener) = self.listeners.get(&listener) else { return };
            let Ok((stream, _)) = listener.accept() else { return };
            if self.cut {
                // Closing is a RST then.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                continue;
            }
            let token = self.next_token;
            let watched = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| Ok(self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token))?));
            if watched.is_ok() {
                self.next_token += 1;
                self.connections.insert(token, Connection { stream, read: Vec::new() });
                // The request of a probe is often there with its connection.
                self.read(token);
            }
        }
    }

    fn read(&mut self, token: u64) {
        let mut buffer = [0; 4096];
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return };
            match connection.stream.read(&mut buffer) {
                Ok(0) => return self.close(token),
                Ok(count) if self.http => {
                    connection.read.extend_from_slice(&buffer[..count]);
                    if connection.read.len() > http::MAX_HEAD {
                        return self.close(token);
                    }
                    self.answer_whole(token);
                }
                Ok(_) if self.hang => {}
                // What was asked for is smaller than any send buffer; see `send`.
                Ok(count) if connection.stream.write(&buffer[..count]).ok() == Some(count) => {}
                Ok(_) => return self.close(token),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.close(token),
            }
        }
    }

    /// Answers every whole request that was read.
    fn answer_whole(&mut self, token: u64) {
        while let Some(connection) = self.connections.get_mut(&token) {
            let Some(head) = http::head(&connection.read) else { return };
            if connection.read.len() < head.len {
                return;
            }
            connection.read.drain(..head.len);
            if self.hang {
                continue;
            }
            if self.delay.is_zero() {
                self.send(token, head);
            } else if self.late.len() < MAX_CONNECTIONS {
                self.late.insert((Instant::now() + self.delay, token), head);
            }
        }
    }

    fn send_late(&mut self) {
        let now = Instant::now();
        while let Some(due) = self.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((_, token), head) = due.remove_entry();
            self.send(token, head);
        }
    }

    fn send(&mut self, token: u64, head: http::Head) {
        let answer = http::answer(self.status, &self.name, head);
        let Some(connection) = self.connections.get_mut(&token) else { return };
        // An answer is smaller than any send buffer: a client that lets it fill up is not worth waiting for.
        let sent = connection.stream.write(&answer);
        if !head.keep_alive || sent.ok() != Some(answer.len()) {
            self.close(token);
        }
    }

    fn close(&mut self, token: u64) {
        // The end of a descriptor takes it out of the epoll too.
        self.connections.remove(&token);
    }
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
