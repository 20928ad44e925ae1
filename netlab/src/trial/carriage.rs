//! What is carried: everything, in order, at whatever pace, whoever speaks first.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::pattern::Pattern;
use super::{Ends, Path, expect, told};
use crate::scenario::End;

/// A writer whose octets found no room for so long is held back.
const STUCK: Duration = Duration::from_millis(300);
/// More than all buffers on the way together: whoever takes this much unread holds it in memory.
const TOO_MUCH: u64 = 256 << 20;
/// Other connections beside one that stands still.
const OTHERS: usize = 8;
/// Within this each of them must be answered.
const UNAFFECTED: Duration = Duration::from_secs(2);
const BANNER: &[u8] = b"220 speak, friend\r\n";

/// A reader that stops reading: its window closes, the writer is held back, others are not, and nothing is lost.
pub(super) fn slow_reader(path: &Path, who: End) -> io::Result<()> {
    let mut backend = path.backend()?;
    let mut others = (0..OTHERS).map(|_| backend.connect()).collect::<io::Result<Vec<_>>>()?;
    let (mut reader, mut writer) = backend.connect()?.into_from(who);
    let pattern = Pattern::new(5);
    let written = fill(&mut writer, &pattern)?;
    for other in &mut others {
        let began = Instant::now();
        other.talk().map_err(|error| told(&error, "another connection"))?;
        if began.elapsed() > UNAFFECTED {
            return Err(io::Error::other(format!(
                "another connection was answered after {:?}",
                began.elapsed()
            )));
        }
    }
    // What the socket took before it was held back, and something more.
    let length = written + (1 << 20);
    thread::scope(|scope| {
        let sends = scope.spawn(|| {
            let mut at = written;
            while at < length {
                at += pattern.write(&mut writer, at, length - at)? as u64;
            }
            writer.shutdown(Shutdown::Write)
        });
        pattern.receive(&mut reader, 0, length)?;
        sends.join().map_err(|_| io::Error::other("the writer died"))?
    })
}

/// Writes until nothing finds room any more; how much did.
pub(super) fn fill(writer: &mut TcpStream, pattern: &Pattern) -> io::Result<u64> {
    writer.set_nonblocking(true)?;
    let (mut written, mut moved) = (0, Instant::now());
    while moved.elapsed() < STUCK {
        match pattern.write(writer, written, TOO_MUCH) {
            Ok(count) => {
                written += count as u64;
                moved = Instant::now();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(told(&error, &format!("after {written} octets that nobody read"))),
        }
        if written > TOO_MUCH {
            return Err(io::Error::other(format!("{written} octets were taken that nobody read")));
        }
    }
    writer.set_nonblocking(false)?;
    Ok(written)
}

/// A server that speaks before the client has said a word.
pub(super) fn speaks_first(path: &Path) -> io::Result<()> {
    let backend = path.backend()?;
    let mut client = path.dial()?;
    let until = Instant::now() + super::PATIENCE;
    // Whose connection it is cannot be asked: whoever comes is greeted, as by any such server.
    let mut taken = Vec::new();
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut got = [0; BANNER.len()];
    loop {
        let mut server = backend.accept(until)?;
        server.write_all(BANNER)?;
        taken.push(server);
        match client.read_exact(&mut got) {
            Ok(()) if got == BANNER => return Ok(()),
            Ok(()) => return Err(io::Error::other("something else came than the greeting")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(told(&error, "no greeting came")),
        }
    }
}

/// So many megabytes each way at once, each octet in its place.
pub(super) fn integrity(path: &Path, megabytes: u64) -> io::Result<()> {
    let mut backend = path.backend()?;
    let Ends { client, server } = backend.connect()?;
    let length = megabytes << 20;
    let patterns = [Pattern::new(6), Pattern::new(7)];
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (from, to, pattern) in [(&client, &server, &patterns[0]), (&server, &client, &patterns[1])] {
            running.push(scope.spawn(move || {
                let mut from = from;
                pattern.send(&mut from, length)?;
                from.shutdown(Shutdown::Write)
            }));
            running.push(scope.spawn(move || {
                let mut to = to;
                pattern.receive(&mut to, 0, length)
            }));
        }
        for one in running {
            one.join().map_err(|_| io::Error::other("a thread died"))??;
        }
        Ok(())
    })
}

/// Octets that are written one by one: none waits for the next, and all come.
pub(super) fn single_octets(path: &Path, octets: u32) -> io::Result<()> {
    let mut backend = path.backend()?;
    let mut ends = backend.connect()?;
    for by in [End::Client, End::Backend] {
        let (one, other) = ends.from(by);
        // Each before the next is written …
        for number in 0..octets.min(200) {
            one.write_all(&[number as u8])?;
            expect(other, &[number as u8])?;
        }
        // … and one after another.
        for number in 0..octets {
            one.write_all(&[number as u8])?;
        }
        let mut got = vec![0; octets as usize];
        other.read_exact(&mut got)?;
        if got.iter().zip(0u32..).any(|(got, number)| *got != number as u8) {
            return Err(io::Error::other("an octet came out of its place"));
        }
    }
    Ok(())
}
