//! A TUN interface whose packets carry what is left to do: checksums, and cutting to size (virtio_net_hdr).
#![expect(unsafe_code, reason = "the ioctls of /dev/net/tun have no safe binding here")]
#![expect(clippy::disallowed_methods, reason = "driver: opens /dev/net/tun")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// The kernel's names have room for so many octets and a zero.
const NAME: usize = libc::IFNAMSIZ - 1;
/// `TUN_F_*` of linux/if_tun.h.
const CHECKSUM: libc::c_uint = 0x01;
const TSO: libc::c_uint = 0x02 | 0x04 | 0x08;
const USO: libc::c_uint = 0x20 | 0x40;
/// `TUNSETOFFLOAD`, `_IOW('T', 208, unsigned int)`.
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;

/// What the kernel leaves to us, and takes from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// TCP packets up to 64 KiB, and checksums.
    pub tcp: bool,
    /// The same for UDP (Linux 6.2).
    pub udp: bool,
}

/// An interface that lives as long as this value: with the process its addresses and routes are gone.
#[derive(Debug)]
pub struct Tun {
    file: File,
    offloads: Offloads,
}

impl Tun {
    /// Makes the interface. What the kernel does not offer of `wanted` is left out; [`Tun::offloads`] says what is there.
    ///
    /// # Errors
    /// The name is too long or taken, or the kernel refuses; the words say what to do.
    pub fn open(name: &str, wanted: Offloads) -> io::Result<Self> {
        if name.is_empty() || name.len() > NAME {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is no name of an interface"),
            ));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|error| words(name, &error))?;
        // SAFETY: made of integers and arrays of them, for which zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
        // SAFETY: the descriptor is open, and the request is of the kind that TUNSETIFF reads and writes.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) } < 0 {
            return Err(words(name, &io::Error::last_os_error()));
        }
        let set = |offloads: Offloads| {
            let tcp = if offloads.tcp { CHECKSUM | TSO } else { 0 };
            let udp = if offloads.udp { CHECKSUM | USO } else { 0 };
            // SAFETY: the descriptor is open; this request takes its argument by value.
            unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD as _, libc::c_ulong::from(tcp | udp)) == 0 }
        };
        let less = [wanted, Offloads { udp: false, ..wanted }, Offloads::default()];
        let offloads = less.into_iter().find(|offloads| set(*offloads)).unwrap_or_default();
        Ok(Self { file, offloads })
    }

    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// One packet behind its virtio_net_hdr of ten octets.
    ///
    /// # Errors
    /// The kernel's, `WouldBlock` among them.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet behind its virtio_net_hdr, in parts.
    ///
    /// # Errors
    /// The kernel's: it does not take this packet, or the interface is down.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(parts).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn words(name: &str, error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EBUSY) => ": another process has it, or it is no TUN; choose another backhaul.interface",
        Some(libc::EPERM | libc::EACCES) => ": edgeproxy needs CAP_NET_ADMIN for the backhaul",
        Some(libc::ENOENT | libc::ENODEV) => ": load the kernel module tun",
        _ => "",
    };
    io::Error::new(error.kind(), format!("cannot make the interface {name}: {error}{hint}"))
}
