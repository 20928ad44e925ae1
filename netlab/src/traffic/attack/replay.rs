//! Sealed datagrams of others, captured where they pass and sent again: as they came, and from an address of our own.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::bgp_stream::segment::Packet;
use crate::sys::packet;

/// Kept of what passes.
const MOST: usize = 1_000;
/// Longer packets are several ones that a card would cut: sent again they would not pass any link.
const LONGEST: usize = 1_500;
/// WireGuard's transport data (whitepaper §5.4.6).
const TRANSPORT: u8 = 4;
const POLL: Duration = Duration::from_millis(20);
/// Between two that are sent again: whoever floods a socket proves nothing about what opens the datagrams.
const PACE: Duration = Duration::from_micros(500);
/// Of a raw socket that brings its own IP header (raw(7)).
const RAW: i32 = 255;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    pub captured: usize,
    pub sent: usize,
}

/// A sealed datagram with its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sealed {
    packet: Vec<u8>,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// Captures on an interface of the calling thread's namespace what goes to this port, for so long, and sends all of it
/// again so many times, in its order: first as it came, then from here.
///
/// # Errors
/// The kernel's; it asks for root.
pub fn run(interface: &str, port: u16, time: Duration, times: u32) -> io::Result<Replayed> {
    let socket = packet::packet_socket(interface, |socket| {
        socket.set_read_timeout(Some(POLL))?;
        packet::force_receive_buffer(socket, 8 << 20)
    })?;
    let until = Instant::now() + time;
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 1 << 17]);
    while Instant::now() < until && kept.len() < MOST {
        // Errors are timeouts.
        let Ok(received) = packet::receive(&socket, &mut buffer) else { continue };
        kept.extend(sealed(received.protocol, &buffer[..received.len], port));
    }
    let mut sent = 0;
    for _ in 0..times {
        for sealed in &kept {
            sent += usize::from(again(sealed).is_ok());
            thread::sleep(PACE);
            sent += usize::from(from_here(sealed).is_ok());
            thread::sleep(PACE);
        }
    }
    Ok(Replayed { captured: kept.len(), sent })
}

/// Transport data for this port, with its UDP checksum made whole: on a veth it may be left to a card that is not there.
fn sealed(ethertype: u16, bytes: &[u8], port: u16) -> Option<Sealed> {
    let Packet::Udp { from, to, payload } = Packet::parse(ethertype, bytes)? else { return None };
    if to.port() != port || payload.first() != Some(&TRANSPORT) || bytes.len() > LONGEST {
        return None;
    }
    let mut packet = bytes.to_vec();
    // The UDP header stands right before its payload.
    let start = payload.as_ptr() as usize - bytes.as_ptr() as usize - 8;
    packet.truncate(start + 8 + payload.len());
    packet[start + 6..start + 8].fill(0);
    let sum = checksum(from.ip(), to.ip(), &packet[start..]);
    packet[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
    Some(Sealed { packet, to, payload: payload.to_vec() })
}

/// Of UDP, with its pseudo header (RFC 768, RFC 8200 §8.1).
fn checksum(from: IpAddr, to: IpAddr, datagram: &[u8]) -> u16 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let pseudo = [octets(from), octets(to), vec![0, 17]].concat();
    let words = |bytes: &[u8]| -> u64 {
        let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
        bytes.chunks(2).map(word).sum()
    };
    let mut sum = words(&pseudo) + datagram.len() as u64 + words(datagram);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}

fn again(sealed: &Sealed) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(sealed.to), Type::RAW, Some(Protocol::from(RAW)))?;
    let to = SocketAddr::new(sealed.to.ip(), 0);
    socket.send_to(&sealed.packet, &to.into()).map(drop)
}

fn from_here(sealed: &Sealed) -> io::Result<()> {
    let any = if sealed.to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    UdpSocket::bind(any)?.send_to(&sealed.payload, sealed.to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 192.0.2.1:7 to 192.0.2.2:9, with a checksum that a card was to make.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let length = |extra: usize| ((payload.len() + extra) as u16).to_be_bytes();
        let mut bytes = vec![0x45, 0];
        bytes.extend(length(28));
        bytes.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 7, 0, 9]);
        bytes.extend(length(8));
        bytes.extend([0xab, 0xcd]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn only_transport_data_for_the_port_is_kept_and_its_checksum_is_right() {
        let bytes = packet(&[4, 0, 0, 0, 9]);
        let kept = sealed(0x0800, &bytes, 9).unwrap();
        assert_eq!((kept.to, kept.payload), ("192.0.2.2:9".parse().unwrap(), vec![4, 0, 0, 0, 9]));
        let (from, to) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        // With the right checksum in it, the sum over everything is all ones.
        assert_eq!(checksum(from, to, &kept.packet[20..]), 0xffff);
        assert_eq!(sealed(0x0800, &bytes, 10), None);
        assert_eq!(sealed(0x0800, &packet(&[1, 0, 0, 0]), 9), None);
        assert_eq!(sealed(0x0800, &packet(&[4; 1_480]), 9), None);
    }
}
