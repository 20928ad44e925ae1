//! System calls on nonblocking stream sockets and pipes, one each, without a copy or an allocation of their own.
#![expect(unsafe_code, reason = "splice(2), MSG_MORE and address-taking calls have no safe binding here")]

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{size_of, size_of_val, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Puts a socket under the watch of this thread's runtime: readable, writable, urgent data and errors.
///
/// # Errors
/// The kernel's: no room for another watch.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY | Interest::ERROR;
    // SAFETY: an OwnedFd keeps its one descriptor open until it is dropped, and nobody replaces it.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(io::Error::from)
}

/// Receives what is there, at most the buffer's length; 0 is the end of the stream.
///
/// # Errors
/// The kernel's, `WouldBlock` among them.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // Not recv(3): in a process with threads, glibc makes every such call a point of cancellation, which nobody here
    // needs and which costs as much as what this calls.
    // SAFETY: the pointer and the length are those of the buffer; no address is asked for.
    let got = unsafe {
        libc::syscall(
            libc::SYS_recvfrom,
            libc::c_long::from(socket.as_raw_fd()),
            buffer.as_mut_ptr(),
            buffer.len(),
            libc::c_long::from(0_u8),
            std::ptr::null_mut::<libc::c_void>(),
            std::ptr::null_mut::<libc::c_void>(),
        )
    };
    size(got as isize)
}

/// Sends what finds room. `more` tells the kernel that something follows at once, be it the end.
///
/// # Errors
/// The kernel's, `WouldBlock` among them. Never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, octets: &[u8], more: bool) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    // Not send(3), for the reason given at `receive`.
    // SAFETY: the pointer and the length are those of the slice; no address is given.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendto,
            libc::c_long::from(socket.as_raw_fd()),
            octets.as_ptr(),
            octets.len(),
            libc::c_long::from(flags),
            std::ptr::null::<libc::c_void>(),
            libc::c_long::from(0_u8),
        )
    };
    size(sent as isize)
}

/// Receives into several places, one after the other, each as far as it is long.
///
/// # Errors
/// The kernel's, `WouldBlock` among them.
pub fn receive_into(socket: BorrowedFd<'_>, places: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    let count = libc::c_int::try_from(places.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: an IoSliceMut has the layout of an iovec, and there are as many as the count says.
    let got = unsafe { libc::readv(socket.as_raw_fd(), places.as_mut_ptr().cast(), count) };
    size(got)
}

/// Sends what finds room of several places, in their order.
///
/// # Errors
/// The kernel's, `WouldBlock` among them. Never raises SIGPIPE.
pub fn send_from(socket: BorrowedFd<'_>, places: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    // SAFETY: a header of zeroes names nothing.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = places.as_ptr().cast_mut().cast();
    header.msg_iovlen = places.len();
    // SAFETY: an IoSlice has the layout of an iovec, there are as many as the header says, and none is written to.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    size(sent)
}

/// Whether the next octet to be read is the end of the stream. Takes nothing.
#[must_use]
pub fn is_at_end(socket: BorrowedFd<'_>) -> bool {
    let mut octet = 0_u8;
    // SAFETY: the pointer is that of one live octet.
    unsafe {
        libc::recv(socket.as_raw_fd(), (&raw mut octet).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) == 0
    }
}

/// Moves octets between a socket and a pipe, at most `most`; 0 is the end of the stream.
///
/// # Errors
/// The kernel's, `WouldBlock` among them: nothing there, or no room.
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize, more: bool) -> io::Result<usize> {
    let flags = libc::SPLICE_F_NONBLOCK | libc::SPLICE_F_MOVE | if more { libc::SPLICE_F_MORE } else { 0 };
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both offsets are null, as sockets and pipes need it.
    let moved = unsafe { libc::splice(from, std::ptr::null_mut(), to, std::ptr::null_mut(), most, flags) };
    size(moved)
}

/// Ends one direction or both. One that has ended already is no failure.
pub fn shut_down(socket: BorrowedFd<'_>, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no pointers.
    unsafe { libc::shutdown(socket.as_raw_fd(), how) };
}

/// Closing this socket from now on tells the other side with a RST.
pub fn reset_on_close(socket: BorrowedFd<'_>) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = set(socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// The error that waits at this socket, which is taken from it.
#[must_use]
pub fn pending_error(socket: BorrowedFd<'_>) -> Option<io::Error> {
    let mut code: libc::c_int = 0;
    let mut length = size_of_val(&code) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of one live integer.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut code).cast(),
            &raw mut length,
        )
    };
    match (done, code) {
        (0, 0) => None,
        (0, code) => Some(io::Error::from_raw_os_error(code)),
        _ => Some(io::Error::last_os_error()),
    }
}

/// Takes one connection from a listener: nonblocking, closed on exec.
///
/// # Errors
/// The kernel's, `WouldBlock` among them.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: an address of zeroes is a valid one of no family.
    let mut address: libc::sockaddr_storage = unsafe { zeroed() };
    let mut length = size_of_val(&address) as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the pointer and the length are those of the storage, which holds every address.
    let fd =
        unsafe { libc::accept4(listener.as_raw_fd(), (&raw mut address).cast(), &raw mut length, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let from = read_address(&address).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, from))
}

/// Whether the kernel has nothing left for another socket: no descriptor, no memory, no port. No peer is to blame.
#[must_use]
pub fn is_starved(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL)
    )
}

/// A nonblocking TCP socket, and whether it is connected already; `Ok((_, false))` says wait until it is writable.
///
/// # Errors
/// The kernel's: no descriptor, no route, refused.
pub fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<(OwnedFd, bool)> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, kind, libc::IPPROTO_TCP) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if let Some(from) = from {
        let (address, length) = write_address(from);
        // SAFETY: the pointer and the length are those of the storage.
        if unsafe { libc::bind(fd, (&raw const address).cast(), length) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let (address, length) = write_address(to);
    // SAFETY: the pointer and the length are those of the storage.
    if unsafe { libc::connect(fd, (&raw const address).cast(), length) } == 0 {
        return Ok((socket, true));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EINPROGRESS) => Ok((socket, false)),
        _ => Err(error),
    }
}

/// Small segments leave at once (TCP_NODELAY).
pub fn send_at_once(socket: BorrowedFd<'_>) {
    let on: libc::c_int = 1;
    let _ = set(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, &on);
}

/// Two ends of a nonblocking pipe, the one to read from first, and how much it holds.
///
/// # Errors
/// The kernel's: no descriptors.
pub fn pipe(capacity: usize) -> io::Result<(OwnedFd, OwnedFd, usize)> {
    let mut ends = [0; 2];
    // SAFETY: the pointer is that of two live integers.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both descriptors are new and nobody else's.
    let (read, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    // A pipe that may not grow (fcntl(2), the user's limit) is still a pipe.
    // SAFETY: no pointers.
    let held = unsafe {
        let wanted = libc::c_int::try_from(capacity).unwrap_or(libc::c_int::MAX);
        match libc::fcntl(ends[1], libc::F_SETPIPE_SZ, wanted) {
            held if held > 0 => held,
            _ => libc::fcntl(ends[1], libc::F_GETPIPE_SZ).max(4096),
        }
    };
    Ok((read, write, held as usize))
}

/// Whole options of a listener's socket; its connections inherit them.
///
/// # Errors
/// The kernel's for the first that it refuses.
pub fn set_user_timeout(socket: BorrowedFd<'_>, after: Duration) -> io::Result<()> {
    let ms = libc::c_uint::try_from(after.as_millis()).unwrap_or(libc::c_uint::MAX);
    set(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, &ms)
}

/// Accepts only with the first data, or after so many seconds without (TCP_DEFER_ACCEPT); 0 for at once.
///
/// # Errors
/// The kernel's.
pub fn set_defer_accept(listener: BorrowedFd<'_>, seconds: i32) -> io::Result<()> {
    set(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, &seconds)
}

/// So many Fast Open requests may wait (RFC 7413); 0 turns it off.
///
/// # Errors
/// The kernel's.
pub fn set_fast_open(listener: BorrowedFd<'_>, queue: u32) -> io::Result<()> {
    let queue = libc::c_int::try_from(queue).unwrap_or(libc::c_int::MAX);
    set(listener, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, &queue)
}

fn set<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one live value.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn size(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

pub(super) fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which of the two it is, and the storage is large enough for either.
            let it: &libc::sockaddr_in = unsafe { &*std::ptr::from_ref(storage).cast() };
            let ip = Ipv4Addr::from(u32::from_be(it.sin_addr.s_addr));
            Some((ip, u16::from_be(it.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let it: &libc::sockaddr_in6 = unsafe { &*std::ptr::from_ref(storage).cast() };
            let ip = Ipv6Addr::from(it.sin6_addr.s6_addr);
            let port = u16::from_be(it.sin6_port);
            Some(SocketAddrV6::new(ip, port, it.sin6_flowinfo, it.sin6_scope_id).into())
        }
        _ => None,
    }
}

pub(super) fn write_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: an address of zeroes is a valid one of no family.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large enough and aligned for every address.
            let it: &mut libc::sockaddr_in = unsafe { &mut *(&raw mut storage).cast() };
            it.sin_family = libc::AF_INET as libc::sa_family_t;
            it.sin_port = v4.port().to_be();
            it.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let it: &mut libc::sockaddr_in6 = unsafe { &mut *(&raw mut storage).cast() };
            it.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            it.sin6_port = v6.port().to_be();
            it.sin6_addr.s6_addr = v6.ip().octets();
            it.sin6_flowinfo = v6.flowinfo();
            it.sin6_scope_id = v6.scope_id();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn octets_go_both_ways_and_through_a_pipe() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let (client, _) = connect(listener.local_addr().unwrap(), None).unwrap();
            let (server, from) = accept(listener.as_fd()).unwrap();
            assert_eq!(from.ip(), listener.local_addr().unwrap().ip());
            assert_eq!(send(client.as_fd(), b"hello", false).unwrap(), 5);
            let (read, write, held) = pipe(1 << 20).unwrap();
            assert!(held >= 4096);
            assert_eq!(splice(server.as_fd(), write.as_fd(), held, false).unwrap(), 5);
            assert_eq!(splice(read.as_fd(), server.as_fd(), 5, false).unwrap(), 5);
            let mut buffer = [0; 16];
            assert_eq!(receive(client.as_fd(), &mut buffer).unwrap(), 5);
            assert_eq!(&buffer[..5], b"hello");
            let idle = receive(client.as_fd(), &mut buffer).unwrap_err();
            assert_eq!(idle.kind(), ErrorKind::WouldBlock);
            shut_down(server.as_fd(), Shutdown::Write);
            assert_eq!(receive(client.as_fd(), &mut buffer).unwrap(), 0);
            reset_on_close(client.as_fd());
            drop(client);
            assert_eq!(pending_error(server.as_fd()).unwrap().kind(), ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn nobody_listens() {
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let answer = connect(unused, None).and_then(|(socket, connected)| {
            assert!(!connected);
            pending_error(socket.as_fd()).map_or(Ok(()), Err)
        });
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
