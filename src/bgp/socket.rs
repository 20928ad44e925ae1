//! BGP's sockets: dialling, listening, and the options that a neighbor asks for.
#![expect(clippy::disallowed_methods, reason = "driver: owns the deadline of a dial")]

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::config::bgp::Neighbor;
use crate::sys::{tcp_md5, ttl};

/// How long a dialled neighbor may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Network control (RFC 4594 §3.1): routers put BGP in front of what they forward.
const CLASS_SELECTOR_6: u32 = 0xC0;
/// What a directly connected neighbor must send with under GTSM (RFC 5082 §3).
const HIGHEST_TTL: u8 = 255;

/// Connects to a neighbor; `internal` when it is in our own AS.
///
/// # Errors
/// Words for the operator: what happened and what may be the cause.
pub async fn dial(neighbor: &Neighbor, internal: bool) -> Result<TcpStream, String> {
    let target = SocketAddr::new(neighbor.address, neighbor.port);
    let socket = prepare(neighbor, internal).map_err(|error| match neighbor.source {
        Some(source) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            format!("cannot connect from {source}: this machine does not have that address (bgp.neighbors[{}].source)", neighbor.name)
        }
        _ => format!("cannot prepare a connection to {target}: {error}"),
    })?;
    match timeout(DIAL_TIMEOUT, socket.connect(target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failure(target, neighbor, &error)),
        Err(_) => Err(failure(target, neighbor, &io::ErrorKind::TimedOut.into())),
    }
}

fn failure(target: SocketAddr, neighbor: &Neighbor, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{target} refused the connection: no BGP daemon listens there, or it does not expect us")
        }
        io::ErrorKind::TimedOut => {
            let mut words = format!(
                "no answer from {target} within {} s: it is down, or TCP port {} is filtered",
                DIAL_TIMEOUT.as_secs(),
                target.port()
            );
            if neighbor.password.is_some() {
                words += ", or its TCP-MD5 password is not ours";
            }
            if neighbor.ttl_security.is_some() {
                words += ", or its packets arrive with a TTL under what ttl_security asks for";
            }
            words
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("{target} cannot be reached: {error}; check the interface and the route to it")
        }
        _ => format!("cannot connect to {target}: {error}"),
    }
}

fn prepare(neighbor: &Neighbor, internal: bool) -> io::Result<TcpSocket> {
    let socket = open(neighbor.address)?;
    set_ttl(&socket, neighbor, internal)?;
    if let Some(password) = &neighbor.password {
        tcp_md5::set_key(&socket, neighbor.address, password.expose())?;
    }
    if let Some(source) = neighbor.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn open(address: IpAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(address, 0)), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // A withdrawal must not wait for the acknowledgement of what went before it.
    socket.set_tcp_nodelay(true)?;
    match address {
        IpAddr::V4(_) => socket.set_tos_v4(CLASS_SELECTOR_6)?,
        IpAddr::V6(_) => socket.set_tclass_v6(CLASS_SELECTOR_6)?,
    }
    Ok(socket)
}

/// The least TTL that packets of this neighbor may arrive with.
fn least_ttl(neighbor: &Neighbor) -> Option<u8> {
    // RFC 5082 §3: a neighbor one hop away sends 255 and is seen with 255.
    neighbor.ttl_security.map(|hops| HIGHEST_TTL - hops.max(1) + 1)
}

fn set_ttl(socket: &impl AsFd, neighbor: &Neighbor, internal: bool) -> io::Result<()> {
    match (least_ttl(neighbor), neighbor.multihop) {
        (Some(least), _) => {
            ttl::set_own(socket, neighbor.address, HIGHEST_TTL)?;
            ttl::set_least(socket, neighbor.address, least)
        }
        (None, Some(hops)) => ttl::set_own(socket, neighbor.address, hops),
        // One in our own AS may be anywhere, and may believe 255 only.
        (None, None) if internal => ttl::set_own(socket, neighbor.address, HIGHEST_TTL),
        // An external neighbor is directly connected unless the operator says otherwise.
        (None, None) => ttl::set_own(socket, neighbor.address, 1),
    }
}

/// Listens for neighbors, with the keys of those that have one.
///
/// # Errors
/// The kernel's: the port is taken, or the address is not ours.
pub fn listen<'a>(
    address: SocketAddr,
    neighbors: impl IntoIterator<Item = &'a Neighbor>,
) -> io::Result<TcpListener> {
    let socket = open(address.ip())?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // A neighbor with GTSM must be able to believe our very first answer.
    ttl::set_own(&socket, address.ip(), HIGHEST_TTL)?;
    ttl::keep_syns(&socket)?;
    for neighbor in neighbors {
        set_listen_key(&socket, address, neighbor.address, neighbor.password.as_ref().map(|p| p.expose()))?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets, changes or takes away a neighbor's key on a listener.
///
/// # Errors
/// The kernel's.
pub fn set_listen_key(
    listener: &impl AsFd,
    address: SocketAddr,
    neighbor: IpAddr,
    key: Option<&[u8]>,
) -> io::Result<()> {
    if address.is_ipv4() != neighbor.is_ipv4() {
        return Ok(());
    }
    tcp_md5::set_key(listener, neighbor, key.unwrap_or(&[]))
}

/// Gives an accepted connection what its neighbor asks for.
///
/// # Errors
/// Words for the operator: why the connection must be closed.
pub fn welcome(stream: &TcpStream, neighbor: &Neighbor, internal: bool) -> Result<(), String> {
    if let (Some(least), Some(came)) = (least_ttl(neighbor), ttl::of_syn(stream))
        && came < least
    {
        return Err(format!(
            "the neighbor's connection arrived with TTL {came}, ttl_security: {} asks for at least {least}: \
             it is further away, or does not send with TTL 255",
            neighbor.ttl_security.unwrap_or(1)
        ));
    }
    stream
        .set_nodelay(true)
        .and_then(|()| set_ttl(stream, neighbor, internal))
        .map_err(|error| error.to_string())
}

/// Sends FIN after what is written; the connection can still be read.
pub fn end_writing(stream: &TcpStream) {
    // It fails only where the connection is gone, which the next read shows.
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bgp::{Asn, Attributes, Family, NextHop};

    #[test]
    fn each_kind_of_neighbor_is_dialled_with_its_ttl() {
        for (internal, ttl_security, multihop, expected) in [
            (false, None, None, 1),
            (false, None, Some(4), 4),
            (false, Some(1), None, 255),
            (true, None, None, 255),
            (true, Some(3), None, 255),
        ] {
            let neighbor = Neighbor {
                name: "n".to_owned(),
                address: "192.0.2.1".parse().unwrap(),
                port: 179,
                asn: Asn(64500),
                families: vec![Family::Ipv4],
                source: None,
                passive: false,
                password: None,
                ttl_security,
                multihop,
                hold_time: Duration::from_secs(90),
                connect_retry: Duration::from_secs(5),
                max_prefixes: None,
                next_hop: NextHop::default(),
                export: Attributes::default(),
                degrade: Attributes::default(),
                drain: Attributes::default(),
            };
            let socket = prepare(&neighbor, internal).unwrap();
            let ttl = SockRef::from(&socket).ttl_v4().unwrap();
            assert_eq!(ttl, expected, "internal: {internal}, {ttl_security:?}, {multihop:?}");
        }
    }
}
