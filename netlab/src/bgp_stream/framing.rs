//! A byte stream cut into BGP messages; started anywhere, it waits for the next marker.

/// RFC 4271 §4.1: marker, length, type.
pub const HEADER: usize = 19;
/// RFC 4271 §4: what a message may have without the extension of RFC 8654.
pub const MAX_MESSAGE: usize = 4096;
const MARKER: [u8; 16] = [0xff; 16];

/// What stands next in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A whole message with its header, 19 to 65535 bytes.
    Message(Vec<u8>),
    /// No message begins here, and why; reading goes on at the next marker.
    Bad(String),
}

/// Cuts a stream into frames. Holds at most one unfinished message beyond what was pushed.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Whether the buffer is known to begin at a message.
    aligned: bool,
}

impl Framer {
    /// For a stream seen from its first byte.
    pub fn at_start() -> Framer {
        Framer { buffer: Vec::new(), aligned: true }
    }

    /// For a stream joined somewhere in the middle.
    pub fn mid_stream() -> Framer {
        Framer { buffer: Vec::new(), aligned: false }
    }

    /// Bytes are missing here: forgets the unfinished message and looks for the next marker.
    pub fn lose(&mut self) {
        self.buffer.clear();
        self.aligned = false;
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, `None` until more bytes are pushed.
    pub fn poll(&mut self) -> Option<Frame> {
        if !self.aligned {
            self.align();
        }
        if !self.aligned || self.buffer.len() < HEADER {
            return None;
        }
        if self.buffer[..16] != MARKER {
            return Some(self.bad("the marker is not all ones".to_owned()));
        }
        let length = usize::from(u16::from_be_bytes([self.buffer[16], self.buffer[17]]));
        if length < HEADER {
            return Some(self.bad(format!("a length of {length}")));
        }
        if self.buffer.len() < length {
            return None;
        }
        let rest = self.buffer.split_off(length);
        Some(Frame::Message(std::mem::replace(&mut self.buffer, rest)))
    }

    fn bad(&mut self, why: String) -> Frame {
        self.buffer.drain(..1);
        self.aligned = false;
        Frame::Bad(why)
    }

    /// Drops bytes until a plausible header stands first. All ones inside a message could pass for a
    /// marker, so length and type must fit as well.
    fn align(&mut self) {
        let plausible = |bytes: &[u8]| {
            let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
            bytes[..16] == MARKER && (HEADER..=MAX_MESSAGE).contains(&length) && (1..=5).contains(&bytes[18])
        };
        match self.buffer.windows(HEADER).position(plausible) {
            Some(at) => {
                self.buffer.drain(..at);
                self.aligned = true;
            }
            None => {
                let unsure = self.buffer.len().saturating_sub(HEADER - 1);
                self.buffer.drain(..unsure);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepalive() -> Vec<u8> {
        [&MARKER[..], &[0, 19, 4]].concat()
    }

    #[test]
    fn joins_in_the_middle_of_a_message_that_ends_in_ones() {
        let mut framer = Framer::mid_stream();
        framer.push(&[7, 7, 0xff, 0xff, 0xff]);
        for byte in keepalive() {
            assert_eq!(framer.poll(), None);
            framer.push(&[byte]);
        }
        assert_eq!(framer.poll(), Some(Frame::Message(keepalive())));
        assert_eq!(framer.poll(), None);
    }

    #[test]
    fn a_wrong_marker_and_a_short_length_are_said_and_left_behind() {
        let mut framer = Framer::at_start();
        let mut wrong = keepalive();
        wrong[3] = 0;
        framer.push(&wrong);
        framer.push(&keepalive());
        assert!(matches!(framer.poll(), Some(Frame::Bad(why)) if why.contains("marker")));
        assert_eq!(framer.poll(), Some(Frame::Message(keepalive())));
        framer.push(&[&MARKER[..], &[0, 18, 4]].concat());
        assert!(matches!(framer.poll(), Some(Frame::Bad(why)) if why.contains("18")));
    }
}
