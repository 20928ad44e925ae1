//! How connections end: each direction by itself, or both at once by a RST.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::carriage::fill;
use super::pattern::Pattern;
use super::{Path, expect, expect_end, expect_reset, reset_on_close, told};
use crate::scenario::End;

/// What flows back after the other direction has ended.
const AFTER: u64 = 1 << 20;

/// One side has finished, and hears the other to its end.
pub(super) fn half_close(path: &Path, by: End) -> io::Result<()> {
    let mut backend = path.backend()?;
    let mut ends = backend.connect()?;
    ends.talk()?;
    let (first, other) = ends.from(by);
    first.write_all(b"that is all")?;
    first.shutdown(Shutdown::Write)?;
    expect(other, b"that is all")?;
    expect_end(other)?;
    let pattern = Pattern::new(3);
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            pattern.send(other, AFTER)?;
            other.shutdown(Shutdown::Write)
        });
        pattern.receive(first, 0, AFTER)?;
        sends.join().map_err(|_| io::Error::other("the sender died"))?
    })
}

/// A RST of one side is a RST to the other.
pub(super) fn reset(path: &Path, by: End) -> io::Result<()> {
    let mut backend = path.backend()?;
    let mut ends = backend.connect()?;
    ends.talk()?;
    let (first, other) = ends.into_from(by);
    gone(first, &other)
}

/// The same while nothing more can be written. A client's is heard although nobody reads from it; a backend's may come
/// after what it said before.
pub(super) fn reset_while_full(path: &Path, by: End) -> io::Result<()> {
    let mut backend = path.backend()?;
    let (mut first, mut other) = backend.connect()?.into_from(by);
    fill(&mut first, &Pattern::new(4))?;
    if by == End::Client {
        return gone(first, &other);
    }
    reset_on_close(&first)?;
    drop(first);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match other.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the stream ended as if all had been said")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(told(&error, "no RST came")),
        }
    }
}

fn gone(first: TcpStream, other: &TcpStream) -> io::Result<()> {
    reset_on_close(&first)?;
    drop(first);
    expect_reset(other)
}
