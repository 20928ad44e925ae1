//! Datagrams, many in one system call: recvmmsg(2) and sendmmsg(2).
#![expect(unsafe_code, reason = "recvmmsg(2) and sendmmsg(2) have no safe binding here")]

use std::fmt;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::stream::{read_address, write_address};

/// Datagrams in one call.
pub const MOST: usize = 32;
/// Room for each: more than UDP's length can say without jumbograms (RFC 768, RFC 2675).
const ROOM: usize = 1 << 16;

/// What a socket of datagrams is watched for. Not for room to send: each datagram that leaves would wake its task.
pub const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

/// Puts a socket under the watch of this thread's runtime, for [`INTEREST`].
///
/// # Errors
/// The kernel's: no room for another watch.
pub fn watch(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its one descriptor open until it is dropped, and nobody replaces it.
    unsafe { AsyncFd::register_with_interest(socket, INTEREST) }.map_err(io::Error::from)
}

/// Room for [`MOST`] datagrams with their senders: 2 MiB of addresses, of which the kernel gives what is written to.
pub struct Batch {
    octets: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    lengths: [usize; MOST],
    count: usize,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({})", self.count)
    }
}

impl Default for Batch {
    fn default() -> Self {
        // SAFETY: an address of zeroes is a valid one of no family.
        let name = unsafe { zeroed() };
        Self { octets: vec![0; MOST * ROOM], names: vec![name; MOST], lengths: [0; MOST], count: 0 }
    }
}

impl Batch {
    /// Receives what is there in place of what was held: at least one datagram, at most [`MOST`]; fewer than that say
    /// that the socket was empty.
    ///
    /// # Errors
    /// The kernel's, `WouldBlock` among them; and what ICMP told a connected socket, which is taken from it.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        // SAFETY: both are made of integers and pointers, for which zeroes are valid.
        let (mut parts, mut heads): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) = unsafe { zeroed() };
        let chunks = self.octets.chunks_exact_mut(ROOM).zip(&mut self.names);
        for ((part, head), (chunk, name)) in parts.iter_mut().zip(&mut heads).zip(chunks) {
            part.iov_base = chunk.as_mut_ptr().cast();
            part.iov_len = ROOM;
            head.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            head.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: there are MOST heads; each points to its part and its name, which outlive the call.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                heads.as_mut_ptr(),
                MOST as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for (length, head) in self.lengths.iter_mut().zip(&heads[..count]) {
            *length = head.msg_len as usize;
        }
        self.count = count;
        Ok(count)
    }

    /// Datagrams held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// One of them.
    #[must_use]
    pub fn datagram(&self, index: usize) -> &[u8] {
        &self.octets[index * ROOM..][..self.lengths[index]]
    }

    /// Octets in some of them.
    #[must_use]
    pub fn octets(&self, of: Range<usize>) -> u64 {
        self.lengths[of].iter().map(|length| *length as u64).sum()
    }

    /// Who sent one of them; None if that is no Internet address.
    #[must_use]
    pub fn sender(&self, index: usize) -> Option<SocketAddr> {
        read_address(&self.names[index])
    }

    /// Sends some of them on, to `to` or to whom the socket is connected; how many were sent, at least one unless
    /// there were none.
    ///
    /// # Errors
    /// The kernel's about the first of them, `WouldBlock` among them, or what ICMP told a connected socket.
    pub fn send(
        &self,
        socket: BorrowedFd<'_>,
        which: Range<usize>,
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        // SAFETY: both are made of integers and pointers, for which zeroes are valid.
        let (mut parts, mut heads): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) = unsafe { zeroed() };
        let mut name = to.map(write_address);
        let count = which.len();
        for ((part, head), index) in parts.iter_mut().zip(&mut heads).zip(which) {
            let datagram = self.datagram(index);
            part.iov_base = datagram.as_ptr().cast_mut().cast();
            part.iov_len = datagram.len();
            if let Some((storage, length)) = &mut name {
                head.msg_hdr.msg_name = std::ptr::from_mut(storage).cast();
                head.msg_hdr.msg_namelen = *length;
            }
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `count` heads are filled; what they point to outlives the call, and sending writes to none of it.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), heads.as_mut_ptr(), count as libc::c_uint, flags as _)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn datagrams_keep_their_bounds_and_their_senders() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let (near, far) = (UdpSocket::bind(bind).unwrap(), UdpSocket::bind(bind).unwrap());
            let to = near.local_addr().unwrap();
            let mut batch = Batch::default();
            let nothing = batch.receive(near.as_fd()).unwrap_err();
            assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
            let sent: Vec<Vec<u8>> = vec![b"one".to_vec(), vec![], vec![7; 9_000], b"four".to_vec()];
            for datagram in &sent {
                far.send_to(datagram, to).unwrap();
            }
            assert_eq!(batch.receive(near.as_fd()).unwrap(), 4);
            let got: Vec<_> = (0..4).map(|index| batch.datagram(index).to_vec()).collect();
            assert_eq!(got, sent);
            assert_eq!(batch.octets(0..4), 9_007);
            assert!((0..4).all(|index| batch.sender(index) == far.local_addr().ok()));
            // Back again: two to an address, one to the connected peer.
            assert_eq!(batch.send(near.as_fd(), 0..2, far.local_addr().ok()).unwrap(), 2);
            near.connect(far.local_addr().unwrap()).unwrap();
            assert_eq!(batch.send(near.as_fd(), 3..4, None).unwrap(), 1);
            assert_eq!(batch.receive(far.as_fd()).unwrap(), 3);
            assert_eq!(
                (batch.datagram(0), batch.datagram(1), batch.datagram(2)),
                (&b"one"[..], &b""[..], &b"four"[..])
            );
            assert_eq!(batch.sender(2), Some(to));
        }
    }

    #[test]
    fn a_batch_has_a_bound() {
        let (near, far) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        for count in 0..MOST as u8 + 3 {
            far.send_to(&[count], near.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::default();
        assert_eq!(batch.receive(near.as_fd()).unwrap(), MOST);
        assert_eq!(batch.receive(near.as_fd()).unwrap(), 3);
        assert_eq!(batch.datagram(2), &[MOST as u8 + 2]);
    }

    #[test]
    fn a_connected_socket_hears_that_nobody_listens() {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(gone).unwrap();
        socket.send(b"anybody?").unwrap();
        sleep(Duration::from_millis(20));
        let error = Batch::default().receive(socket.as_fd()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
