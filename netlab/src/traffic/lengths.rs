//! Datagrams of every length, there and back, compared octet by octet.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::namespace::Namespace;

/// How long an answer may take; a datagram may be lost now and then.
const PATIENCE: Duration = Duration::from_millis(500);
const TRIES: usize = 5;
/// How soon the answering end notices that all is over.
const POLL: Duration = Duration::from_millis(50);

/// Sends from `source` in one host to `target` in another, payloads of 0 to `up_to` octets.
///
/// # Errors
/// With the length that did not come back as it left.
pub fn every(
    (here, source): (&Namespace, SocketAddr),
    (there, target): (&Namespace, SocketAddr),
    up_to: usize,
) -> io::Result<()> {
    let server = there.run(|| UdpSocket::bind(target))??;
    let client = here.run(|| {
        let socket = UdpSocket::bind(source)?;
        socket.connect(target).map(|()| socket)
    })??;
    server.set_read_timeout(Some(POLL))?;
    client.set_read_timeout(Some(PATIENCE))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while !stop.load(Ordering::Acquire) {
                if let Ok((count, from)) = server.recv_from(&mut buffer) {
                    // One that is lost is asked for again.
                    let _ = server.send_to(&buffer[..count], from);
                }
            }
        });
        let done = (0..=up_to).try_for_each(|length| exchange(&client, length));
        stop.store(true, Ordering::Release);
        done
    })
}

fn exchange(client: &UdpSocket, length: usize) -> io::Result<()> {
    let payload: Vec<u8> = (0..length).map(|at| (at * 31 + length) as u8).collect();
    let mut answer = vec![0; length + 64];
    for _ in 0..TRIES {
        // An error may be about an earlier datagram.
        let _ = client.send(&payload);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match client.recv(&mut answer) {
                Ok(count) if answer[..count] == payload[..] => return Ok(()),
                // A late answer to a shorter one.
                Ok(count) if count < length => {}
                Ok(count) => {
                    let words = format!("of {length} octets came back {count}, or others");
                    return Err(io::Error::other(words));
                }
                Err(_) => break,
            }
        }
    }
    Err(io::Error::other(format!("a datagram of {length} octets did not come back in {TRIES} tries")))
}
