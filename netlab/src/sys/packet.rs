//! Raw system calls: the clocks, packet and netlink sockets, and reads that carry the kernel's time stamp.
#![allow(unsafe_code)] // The calls below have no safe wrapper in the crates used here; each says why it is sound.

use std::ffi::CString;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// Every protocol: outgoing packets are seen as well as incoming ones.
const ETH_P_ALL: u16 = 0x0003;
/// linux/if_packet.h; libc has no name for it on this target.
const PACKET_STATISTICS: libc::c_int = 6;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// What one read of a packet socket or a UDP socket brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes placed in the buffer.
    pub len: usize,
    /// Bytes the packet had; greater than `len` if the buffer was too short.
    pub original_len: usize,
    /// When the kernel took the packet, on CLOCK_MONOTONIC; the time of the read if it gave no stamp.
    pub at_ns: u64,
    /// Who sent it, for UDP sockets.
    pub peer: Option<SocketAddr>,
    /// EtherType, for packet sockets.
    pub protocol: u16,
    /// Leaving through the interface (PACKET_OUTGOING), for packet sockets.
    pub outgoing: bool,
    /// ARPHRD_* of the interface, for packet sockets.
    pub hardware: u16,
}

/// A packet socket bound to `interface` of the calling thread's network namespace: network-layer
/// packets (SOCK_DGRAM), both directions, stamped by the kernel. Needs CAP_NET_RAW.
///
/// The socket is bound only after `prepare` ran, so a filter set there covers every packet that is seen.
pub fn packet_socket(interface: &str, prepare: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<Socket> {
    // Protocol 0 receives nothing until bind() names ETH_P_ALL.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
    stamp_reads(&socket)?;
    prepare(&socket)?;
    let mut address = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is a plain C struct that fits sockaddr_storage, for which every bit pattern is valid.
    let link = unsafe { address.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET as u16;
    link.sll_protocol = ETH_P_ALL.to_be();
    link.sll_ifindex = interface_index(interface)?;
    // SAFETY: the storage holds a sockaddr_ll of exactly this length, filled in above.
    let address = unsafe { SockAddr::new(address, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
    socket.bind(&address)?;
    Ok(socket)
}

/// A netlink socket of the calling thread's network namespace that is told of every address bound and unbound.
pub fn address_events() -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
    let mut address = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_nl is a plain C struct that fits sockaddr_storage, for which every bit pattern is valid.
    let netlink = unsafe { address.view_as::<libc::sockaddr_nl>() };
    netlink.nl_family = libc::AF_NETLINK as u16;
    netlink.nl_groups = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
    // SAFETY: the storage holds a sockaddr_nl of exactly this length, filled in above.
    let address = unsafe { SockAddr::new(address, mem::size_of::<libc::sockaddr_nl>() as libc::socklen_t) };
    socket.bind(&address)?;
    Ok(socket)
}

/// Asks the kernel to stamp what this socket receives (SO_TIMESTAMPNS).
pub fn stamp_reads(socket: &impl AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe one live c_int, which the kernel only reads.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A receive buffer beyond the system's limit where privileges allow it (SO_RCVBUFFORCE).
pub fn force_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and length describe one live c_int, which the kernel only reads.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            mem::size_of_val(&bytes) as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One read with its kernel stamp. WouldBlock (also after the socket's read timeout) means nothing is there.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    receive_flags(socket.as_raw_fd(), buffer, 0)
}

/// As `receive`, but never waits.
pub fn receive_now(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    receive_flags(socket.as_raw_fd(), buffer, libc::MSG_DONTWAIT)
}

/// Packets seen and packets dropped for want of buffer since the last call, which resets both.
pub fn packet_statistics(socket: &Socket) -> io::Result<(u32, u32)> {
    let mut counts = [0u32; 2];
    let mut length = mem::size_of_val(&counts) as libc::socklen_t;
    // SAFETY: struct tpacket_stats is two unsigned ints; the kernel writes at most `length` bytes.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_STATISTICS,
            counts.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok((counts[0], counts[1])) }
}

fn receive_flags(fd: RawFd, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Received> {
    // u64s, so that the control headers are aligned.
    let mut control = [0u64; 16];
    let mut from = SockAddrStorage::zeroed();
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut from).cast();
    message.msg_namelen = mem::size_of_val(&from) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    // MSG_TRUNC makes the kernel return the whole length of a packet that did not fit.
    // SAFETY: every pointer of `message` is to a live local or to `buffer`, with its true length.
    let taken = unsafe { libc::recvmsg(fd, &raw mut message, flags | libc::MSG_TRUNC) };
    let original_len = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;

    let mut received = Received {
        len: original_len.min(buffer.len()),
        original_len,
        at_ns: 0,
        peer: None,
        protocol: 0,
        outgoing: false,
        hardware: 0,
    };
    let mut stamp_ns = None;
    // SAFETY: the kernel filled `message`; CMSG_* walk only inside msg_control/msg_controllen, and a
    // SCM_TIMESTAMPNS message carries one timespec, read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SO_TIMESTAMPNS {
                let stamp: libc::timespec = libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned();
                stamp_ns = Some(to_ns(stamp));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    // SAFETY: the kernel wrote an address of this length into the storage, which starts out zeroed.
    let from = unsafe { SockAddr::new(from, message.msg_namelen) };
    if libc::c_int::from(from.family()) == libc::AF_PACKET {
        // SAFETY: the family says that the storage holds a sockaddr_ll, which is smaller than it.
        let link = unsafe { from.as_ptr().cast::<libc::sockaddr_ll>().read() };
        received.protocol = u16::from_be(link.sll_protocol);
        received.outgoing = link.sll_pkttype == libc::PACKET_OUTGOING;
        received.hardware = link.sll_hatype;
    }
    received.peer = from.as_socket();
    received.at_ns = to_monotonic(stamp_ns);
    Ok(received)
}

/// The kernel stamps on CLOCK_REALTIME. Both clocks are read at every conversion, so a clock that is
/// being corrected errs only by what it was corrected between the stamp and the read.
fn to_monotonic(stamp_ns: Option<u64>) -> u64 {
    let before = monotonic_ns();
    let Some(stamp) = stamp_ns else { return before };
    let real = clock_ns(libc::CLOCK_REALTIME);
    let now = before.midpoint(monotonic_ns());
    // A stamp "from the future" (the clock was set back) is taken as now.
    now.saturating_sub(real.saturating_sub(stamp))
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec; the call cannot fail for these two clocks.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    to_ns(time)
}

fn to_ns(time: libc::timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn interface_index(name: &str) -> io::Result<libc::c_int> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `name` is a live NUL-terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index as libc::c_int) }
}
