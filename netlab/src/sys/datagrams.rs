//! Many datagrams with one system call, so that a load costs less than what it loads.
#![allow(unsafe_code)] // sendmmsg and recvmmsg have no safe wrapper in the crates used here; each call says why it is sound.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

/// The most of one call.
pub const BATCH: usize = 64;

/// Sends datagrams on a connected socket, at most [`BATCH`]; how many were taken.
///
/// # Errors
/// That of the first one, if none was taken.
pub fn send(socket: &impl AsRawFd, datagrams: &[&[u8]]) -> io::Result<usize> {
    let count = datagrams.len().min(BATCH);
    // SAFETY: all-zero is a valid value of these plain C structs.
    let mut parts: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    for (index, datagram) in datagrams.iter().take(BATCH).enumerate() {
        parts[index] = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        messages[index].msg_hdr.msg_iov = &raw mut parts[index];
        messages[index].msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: `count` messages point to live parts, and those to live datagrams, which the kernel only reads.
    let taken =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as libc::c_uint, 0) };
    usize::try_from(taken).map_err(|_| io::Error::last_os_error())
}

/// Waits for a datagram (as long as the socket's read timeout lets it) and takes what else is there, at most [`BATCH`],
/// each cut to 2,048 octets. `each` is shown them in their order; how many there were.
///
/// # Errors
/// `WouldBlock` after the timeout, and the kernel's.
pub fn receive(
    socket: &impl AsRawFd,
    buffers: &mut [[u8; 2_048]; BATCH],
    mut each: impl FnMut(&[u8]),
) -> io::Result<usize> {
    // SAFETY: all-zero is a valid value of these plain C structs.
    let mut parts: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    for (index, buffer) in buffers.iter_mut().enumerate() {
        parts[index] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        messages[index].msg_hdr.msg_iov = &raw mut parts[index];
        messages[index].msg_hdr.msg_iovlen = 1;
    }
    let none = std::ptr::null_mut();
    // SAFETY: every message points to a live part, and that to a live buffer with its true length.
    let taken = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            BATCH as libc::c_uint,
            libc::MSG_WAITFORONE,
            none,
        )
    };
    let taken = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
    for (message, buffer) in messages.iter().zip(buffers.iter()).take(taken) {
        each(&buffer[..(message.msg_len as usize).min(buffer.len())]);
    }
    Ok(taken)
}
