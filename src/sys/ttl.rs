//! TTLs of TCP sockets: what we send with, the least we accept (GTSM, RFC 5082), and what a SYN came with.
#![expect(unsafe_code, reason = "IP_MINTTL and TCP_SAVED_SYN have no safe binding")]

use std::io;
use std::mem::size_of_val;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Drops every segment of this connection that arrives with a smaller TTL (IPv6: hop limit).
///
/// # Errors
/// The kernel's.
pub fn set_least(socket: &impl AsFd, peer: IpAddr, least: u8) -> io::Result<()> {
    let (level, name) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    set(socket, level, name, i32::from(least))
}

/// Sends with this TTL (IPv6: hop limit).
///
/// # Errors
/// The kernel's.
pub fn set_own(socket: &impl AsFd, peer: IpAddr, ttl: u8) -> io::Result<()> {
    let (level, name) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    };
    set(socket, level, name, i32::from(ttl))
}

fn set(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one live integer.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the SYN of every connection that this listener accepts until it is asked for.
///
/// # Errors
/// The kernel's.
pub fn keep_syns(listener: &impl AsFd) -> io::Result<()> {
    set(listener, libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, 1)
}

/// The TTL (IPv6: hop limit) that an accepted connection's SYN arrived with.
/// None when its listener does not [`keep_syns`].
#[must_use]
pub fn of_syn(connection: &impl AsFd) -> Option<u8> {
    let mut header = [0u8; 120];
    let mut length = size_of_val(&header) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into `header` and says how many.
    let done = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_SAVED_SYN,
            header.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done != 0 || length < 20 {
        return None;
    }
    match header[0] >> 4 {
        4 => Some(header[8]),
        6 => Some(header[7]),
        _ => None,
    }
}
