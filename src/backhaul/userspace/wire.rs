//! The socket of the underlay: trains of datagrams out (UDP GSO), trains in (UDP GRO).

use std::array::from_fn;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::engine::Arrival;
use super::train::{Train, Trains, Way};

/// Octets that the kernel keeps for us in either direction: at 10 Gbit/s, three milliseconds.
const BUFFER: usize = 4 << 20;
/// Room for one train that came.
const ROOM: usize = 1 << 16;
/// Trains taken in one call.
const TRAINS: usize = 8;

/// One socket for both families, bound to every address.
#[derive(Debug)]
pub struct Wire {
    socket: UdpSocket,
    state: UdpSocketState,
    v6: bool,
    gso: bool,
    gro: bool,
    /// Octets of trains that came, and what is known of each.
    came: Vec<u8>,
    metas: [RecvMeta; TRAINS],
}

/// What became of trains that were to leave.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    All,
    /// The socket takes no more for now.
    Full,
}

/// Why a train was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Longer than the path takes.
    TooLong(Way, usize),
    /// No route, or a firewall of our own.
    Refused(Way),
}

impl Wire {
    /// Opens the port.
    ///
    /// # Errors
    /// The kernel's: somebody has the port.
    pub fn open(port: u16, offload: bool) -> io::Result<Self> {
        // A machine without IPv6 has an underlay of IPv4 only.
        let (socket, v6) = match bind(Domain::IPV6, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                (bind(Domain::IPV4, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?, false)
            }
            bound => (bound?, true),
        };
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let gro = offload && state.gro_segments() > 1;
        if !gro {
            no_gro(&socket);
        }
        let gso = offload && state.max_gso_segments() > 1;
        let came = vec![0; TRAINS * ROOM];
        Ok(Self { socket, state, v6, gso, gro, came, metas: [RecvMeta::default(); TRAINS] })
    }

    /// Datagrams that one train may have.
    #[must_use]
    pub fn most_datagrams(&self) -> usize {
        if self.gso { self.state.max_gso_segments().min(64) } else { 1 }
    }

    /// Words for what is in use.
    pub fn offloads(&self) -> impl Iterator<Item = &'static str> {
        [(self.gso, "gso"), (self.gro, "gro")].into_iter().filter_map(|(on, word)| on.then_some(word))
    }

    /// Sends trains in order and takes those that left out of the list. What the kernel refuses is told to `lost`.
    pub fn send(&mut self, trains: &mut Trains, mut lost: impl FnMut(Lost)) -> Sent {
        let mut done = 0;
        let mut full = false;
        for train in trains.list() {
            match self.send_train(train, trains.octets(train.octets.clone())) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    full = true;
                    break;
                }
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    lost(Lost::TooLong(train.way, train.size));
                }
                Err(_) => lost(Lost::Refused(train.way)),
            }
            done += 1;
        }
        trains.sent(done);
        trains.set_most(self.most_datagrams());
        if full { Sent::Full } else { Sent::All }
    }

    fn send_train(&mut self, train: &Train, octets: &[u8]) -> io::Result<()> {
        let many = octets.len() > train.size;
        let sent = self.send_once(train.way, octets, (many && self.gso).then_some(train.size));
        match sent {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO)) => {}
            other if !many || self.gso => return other,
            _ => {}
        }
        // The kernel does not want it like this. Quinn's state takes such a refusal for good, and there are other
        // reasons: a source address that is gone, a path that has become shorter than the datagrams.
        self.state = UdpSocketState::new(UdpSockRef::from(&self.socket))?;
        if !self.gro {
            no_gro(&self.socket);
        }
        let way = Way { from: None, ..train.way };
        for datagram in octets.chunks(train.size.max(1)) {
            self.send_once(way, datagram, None)?;
        }
        if many && self.gso {
            // One by one it works: so it is the offload that this path does not take.
            self.gso = train.way.from.is_some();
        }
        Ok(())
    }

    fn send_once(&self, way: Way, octets: &[u8], size: Option<usize>) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.family(way.to),
            ecn: EcnCodepoint::from_bits(way.ecn),
            contents: octets,
            segment_size: size,
            src_ip: way.from.map(|from| self.family(SocketAddr::new(from, 0)).ip()),
        };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }

    /// Receives what is there: at least one train.
    ///
    /// # Errors
    /// The kernel's, `WouldBlock` among them.
    pub fn receive(&mut self) -> io::Result<usize> {
        let mut parts: [IoSliceMut<'_>; TRAINS] = {
            let mut rooms = self.came.chunks_exact_mut(ROOM);
            from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()))
        };
        self.state.recv(UdpSockRef::from(&self.socket), &mut parts, &mut self.metas)
    }

    /// The datagrams of one train that came, and where from.
    pub fn came(&self, train: usize) -> (impl Iterator<Item = &[u8]>, Arrival) {
        let meta = &self.metas[train];
        let octets = &self.came[train * ROOM..][..meta.len.min(ROOM)];
        let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
        let from = match meta.addr {
            // A link-local address means nothing without its interface.
            SocketAddr::V6(address) if address.scope_id() != 0 => meta.addr,
            _ => from,
        };
        let local = meta.dst_ip.map(|address: IpAddr| address.to_canonical());
        let arrival = Arrival { from, local, ecn: meta.ecn.map_or(0, |ecn| ecn as u8) };
        (octets.chunks(meta.stride.max(1)), arrival)
    }

    fn family(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.v6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            other => other,
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const _: () = assert!(TRAINS <= BATCH_SIZE);

fn bind(domain: Domain, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // More than net.core.rmem_max if we may (SO_RCVBUFFORCE), otherwise as much as that allows.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        socket.set_recv_buffer_size(BUFFER)?;
    }
    if setsockopt(&socket, sockopt::SndBufForce, &BUFFER).is_err() {
        socket.set_send_buffer_size(BUFFER)?;
    }
    socket.bind(&address.into()).map_err(|error| {
        let hint = if error.kind() == ErrorKind::AddrInUse {
            ": another WireGuard listens there; choose another backhaul.listen"
        } else {
            ""
        };
        io::Error::new(
            error.kind(),
            format!("cannot open UDP port {} for the backhaul: {error}{hint}", address.port()),
        )
    })?;
    Ok(socket)
}

/// Datagrams come one by one. Where this cannot be said they do anyway.
fn no_gro(socket: &UdpSocket) {
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &false);
}
