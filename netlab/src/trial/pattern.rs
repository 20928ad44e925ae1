//! Octets that tell where in a stream they belong: a lost, repeated or swapped piece is seen wherever it is.

use std::io::{self, Read, Write};

/// Octets before they repeat: a prime, so that no piece of a usual size falls on itself.
const PERIOD: usize = 65_521;

/// A stream of which any stretch can be made or checked.
#[derive(Debug)]
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new(seed: u32) -> Self {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        Self((0..PERIOD).map(next).collect())
    }

    /// The longest stretch from there that lies in one piece.
    fn from(&self, at: u64) -> &[u8] {
        &self.0[(at % PERIOD as u64) as usize..]
    }

    /// Writes what comes at `at`, at most `most` octets; how many found room.
    ///
    /// # Errors
    /// The writer's.
    pub(super) fn write(&self, to: &mut impl Write, at: u64, most: u64) -> io::Result<usize> {
        let piece = self.from(at);
        to.write(&piece[..piece.len().min(usize::try_from(most).unwrap_or(usize::MAX))])
    }

    /// Reads some octets that must be those at `at`; how many, 0 at the end of the stream.
    ///
    /// # Errors
    /// The reader's, and `InvalidData` for others.
    pub(super) fn read(&self, from: &mut impl Read, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.from(at);
        let room = buffer.len().min(wanted.len());
        let got = from.read(&mut buffer[..room])?;
        if buffer[..got] == wanted[..got] {
            return Ok(got);
        }
        let wrong = buffer[..got].iter().zip(wanted).position(|(is, should)| is != should).unwrap_or(0);
        let place = at + wrong as u64;
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the octet at {place} is another than was sent"),
        ))
    }

    /// Writes the first `length` octets.
    ///
    /// # Errors
    /// The writer's.
    pub(super) fn send(&self, to: &mut impl Write, length: u64) -> io::Result<()> {
        let mut at = 0;
        while at < length {
            at += self.write(to, at, length - at)? as u64;
        }
        Ok(())
    }

    /// Reads from octet `at` on until the end of the stream, which must come after the first `length`.
    ///
    /// # Errors
    /// The reader's, and words about what was lost or added.
    pub(super) fn receive(&self, from: &mut impl Read, mut at: u64, length: u64) -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.read(from, at, &mut buffer) {
                Ok(0) if at == length => return Ok(()),
                Ok(0) => {
                    return Err(io::Error::other(format!("the stream ended after {at} of {length} octets")));
                }
                Ok(got) => at += got as u64,
                Err(error) => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!("after {at} of {length} octets: {error}"),
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_stream_is_seen() {
        let (pattern, length) = (Pattern::new(1), 3 * PERIOD as u64 + 7);
        let mut stream = Vec::new();
        pattern.send(&mut stream, length).unwrap();
        let check = |stream: &[u8]| pattern.receive(&mut &*stream, 0, length).is_ok();
        assert!(stream.len() as u64 == length && check(&stream));
        assert!(!check(&stream[..stream.len() - 1]));
        let mut lost = stream.clone();
        lost.drain(4096..8192);
        assert!(!check(&lost));
        let mut swapped = stream.clone();
        swapped.swap(100, 1000);
        assert!(!check(&swapped));
        stream.push(0);
        assert!(!check(&stream));
    }
}
