//! Real traffic to an anycast address, and what became of it: datagrams at a steady rate, short TCP connections, long flows.

pub mod attack;
pub mod client;
pub mod echo;
pub mod flows;
pub mod http;
pub mod lengths;
pub mod record;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};

pub use attack::Attack;
pub use client::Client;
pub use echo::EchoServer;
pub use flows::FlowClient;
pub use http::HttpClient;
pub use record::Record;

use crate::sys::packet;

/// Begins every datagram of the lab, so that strays are not counted.
const MAGIC: [u8; 4] = *b"nlab";
/// Magic, run and sequence number; an answer carries the name of the POP behind it.
const HEADER: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a socket on {address}: {source}")]
    Socket { address: SocketAddr, source: io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    #[error("a traffic client needs a rate above zero and between 1 and {max} sources, not {sources}")]
    Sources { sources: usize, max: usize },
    #[error("{count} flows are too many: {max} at most")]
    Flows { count: usize, max: usize },
    #[error("no server can have that name: {0}")]
    Name(String),
    #[error("not enough file descriptors: {0}")]
    Descriptors(#[source] io::Error),
}

fn header(run: u32, sequence: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&run.to_be_bytes());
    bytes[8..].copy_from_slice(&sequence.to_be_bytes());
    bytes
}

/// Run, sequence number and what follows; `None` for a stray.
fn parse(datagram: &[u8]) -> Option<(u32, u64, &[u8])> {
    let (header, rest) = datagram.split_at_checked(HEADER)?;
    let (magic, numbers) = header.split_at(4);
    let mut run = [0; 4];
    run.copy_from_slice(&numbers[..4]);
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&numbers[4..]);
    (magic == MAGIC).then(|| (u32::from_be_bytes(run), u64::from_be_bytes(sequence), rest))
}

/// A UDP socket whose reads are stamped by the kernel. The address need not exist yet.
fn stamped_udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    packet::stamp_reads(&socket)?;
    packet::force_receive_buffer(&socket, 4 << 20).or_else(|_| socket.set_recv_buffer_size(4 << 20))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_keeps_its_numbers_and_strays_are_refused() {
        let mut datagram = header(7, 1 << 40).to_vec();
        datagram.extend(b"gru1");
        assert_eq!(parse(&datagram), Some((7, 1 << 40, &b"gru1"[..])));
        datagram[0] = b'x';
        assert_eq!(parse(&datagram), None);
        assert_eq!(parse(&header(1, 2)[..15]), None);
    }
}
