//! One TCP stream through a tunnel: octets, processor seconds, retransmits.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::pair::Pair;
use super::peer::Side;
use super::results::Sample;

const PORT: u16 = 7_001;
/// Before the window: slow start is not what is measured.
const WARM: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(5);
/// How soon a stop is noticed.
const POLL: Duration = Duration::from_millis(200);
/// One write, and what one read throws away.
const GULP: usize = 256 << 10;

/// From the left end to the right one, for so long.
///
/// # Errors
/// When no connection can be made, or it ends.
pub fn measure(pair: &Pair, window: Duration) -> io::Result<Sample> {
    let to = SocketAddr::from((Side::Right.inside(), PORT));
    let listener = pair.right.run(|| TcpListener::bind(to))??;
    let out = pair.left.run(|| TcpStream::connect_timeout(&to, CONNECT))??;
    let (into, _) = listener.accept()?;
    out.set_write_timeout(Some(POLL))?;
    into.set_read_timeout(Some(POLL))?;
    let stop = AtomicBool::new(false);
    let received = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            pair.pin(Side::Left)?;
            send(&out, &stop)
        });
        let receiver = scope.spawn(|| {
            pair.pin(Side::Right)?;
            receive(&into, &received, &stop)
        });
        let look = || {
            thread::sleep(WARM);
            let (began, cpu) = (Instant::now(), pair.seconds());
            let (octets, resent) = (received.load(Ordering::Relaxed), retransmits(pair)?);
            thread::sleep(window);
            let octets = received.load(Ordering::Relaxed) - octets;
            let (wall, cpu) = (began.elapsed().as_secs_f64(), pair.seconds() - cpu);
            Ok(Sample {
                work: octets as f64 * 8.0,
                wall,
                cpu,
                sent: octets as f64 * 8.0,
                retransmits: Some((retransmits(pair)? - resent) * STREAM_SECONDS / wall),
                resident_kib: pair.resident_kib(),
            })
        };
        let seen = look();
        stop.store(true, Ordering::Release);
        let ended = io::Error::other("a load's thread died");
        let (sent, got) = (sender.join(), receiver.join());
        match (sent, got) {
            (Ok(sent), Ok(got)) => sent.and(got).and(seen),
            _ => Err(ended),
        }
    })
}

/// Retransmits are told in as many seconds.
const STREAM_SECONDS: f64 = 5.0;

fn send(mut stream: &TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let octets = vec![0x5a; GULP];
    while !stop.load(Ordering::Acquire) {
        match stream.write(&octets) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Octets are thrown away where they are (tcp(7), MSG_TRUNC): reading them costs a processor that the tunnel needs.
fn receive(stream: &TcpStream, received: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let mut waste = vec![MaybeUninit::uninit(); GULP];
    while !stop.load(Ordering::Acquire) {
        match socket.recv_with_flags(&mut waste, libc::MSG_TRUNC) {
            Ok(0) => return Err(io::Error::other("the stream ended")),
            Ok(count) => drop(received.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Segments sent again by the left host since it is there (RFC 2012 `tcpRetransSegs`).
fn retransmits(pair: &Pair) -> io::Result<f64> {
    let text = pair.left.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    counter(&text, "RetransSegs").ok_or_else(|| io::Error::other("/proc/net/snmp has no RetransSegs"))
}

/// proc_net(5): a line of names, a line of values.
fn counter(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "Ip: A B\nIp: 1 2\nTcp: MaxConn RetransSegs InErrs\nTcp: -1 7 0\n";
        assert_eq!(counter(text, "RetransSegs"), Some(7.0));
        assert_eq!(counter(text, "B"), None);
        assert_eq!(counter("", "RetransSegs"), None);
    }
}
