//! TCP-MD5 signatures on sockets (RFC 2385) and what the kernel counted of wrong ones.
#![expect(unsafe_code, reason = "TCP_MD5SIG has no safe binding")]

use std::io;
use std::mem::{self, size_of};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

/// The kernel's `struct tcp_md5sig`.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; libc::TCP_MD5SIG_MAXKEYLEN],
}

/// Signs and checks every segment to and from `neighbor` on this socket, dialling or listening.
/// An empty key takes the neighbor's key away.
///
/// # Errors
/// The kernel's, and `InvalidInput` for a key over 80 octets.
pub fn set_key(socket: &impl AsFd, neighbor: IpAddr, key: &[u8]) -> io::Result<()> {
    // SAFETY: all-zero octets are a valid value of this plain struct.
    let mut option: TcpMd5Sig = unsafe { mem::zeroed() };
    let place = option.key.get_mut(..key.len()).ok_or(io::ErrorKind::InvalidInput)?;
    place.copy_from_slice(key);
    option.key_length = key.len() as u16;
    let address = SockAddr::from(SocketAddr::new(neighbor, 0));
    // SAFETY: a SockAddr is backed by a whole sockaddr_storage.
    option.address = unsafe { *address.as_ptr().cast::<libc::sockaddr_storage>() };
    // SAFETY: the pointer and the length are those of one live struct of the kernel's layout.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            (&raw const option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // Taking a key away that is not there is no failure.
            error if key.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            error => Err(error),
        },
    }
}
