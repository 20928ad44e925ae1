//! What the kernel knows of the way to an address: its MTU, and the source it would use.
#![expect(unsafe_code, reason = "IPV6_MTU has no safe binding here")]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// The MTU of the route to `to` in octets of IP packets, with what ICMP has told about that path, and the source
/// address of packets to there. Nothing is sent.
///
/// # Errors
/// The kernel's: there is no route.
pub fn path_to(to: IpAddr) -> io::Result<(u32, IpAddr)> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(to, 9))?;
    let (level, name) =
        if to.is_ipv4() { (libc::IPPROTO_IP, libc::IP_MTU) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU) };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the socket is open, and the option is written to an integer of the length that is given.
    let got = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, std::ptr::from_mut(&mut mtu).cast(), &mut length)
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((u32::try_from(mtu).unwrap_or(0), socket.local_addr()?.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_mtu_and_is_its_own_source() {
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
            let (mtu, source) = path_to(address).unwrap();
            assert!(mtu >= 1280, "{mtu}");
            assert_eq!(source, address);
        }
    }
}
