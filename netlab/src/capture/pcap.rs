//! Capture files that tcpdump and Wireshark read: classic pcap, nanoseconds, Linux cooked headers.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::SystemTime;

use crate::moment::Moment;
use crate::sys::packet::Received;

/// The pcap variant whose fractions are nanoseconds.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
/// LINKTYPE_LINUX_SLL: no link header was captured, so the cooked one stands in for every kind of link.
const LINKTYPE_LINUX_SLL: u32 = 113;

/// A capture file being written. File times are wall clock, as readers expect.
#[derive(Debug)]
pub struct PcapWriter<W: Write = BufWriter<File>> {
    out: W,
    /// Wall clock minus CLOCK_MONOTONIC, nanoseconds, when the file was begun.
    offset_ns: u64,
}

impl PcapWriter {
    pub fn create(path: &Path) -> io::Result<PcapWriter> {
        PcapWriter::begin(BufWriter::new(File::create(path)?))
    }
}

impl<W: Write> PcapWriter<W> {
    pub fn begin(mut out: W) -> io::Result<PcapWriter<W>> {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall_ns = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        out.write_all(&MAGIC_NANOSECONDS.to_ne_bytes())?;
        out.write_all(&2u16.to_ne_bytes())?;
        out.write_all(&4u16.to_ne_bytes())?;
        for field in [0, 0, 1 << 18, LINKTYPE_LINUX_SLL] {
            out.write_all(&u32::to_ne_bytes(field))?;
        }
        Ok(PcapWriter { out, offset_ns: wall_ns.saturating_sub(Moment::now().0) })
    }

    pub fn write(&mut self, received: &Received, bytes: &[u8]) -> io::Result<()> {
        let wall_ns = received.at_ns.saturating_add(self.offset_ns);
        let size = |len: usize| u32::try_from(len + 16).unwrap_or(u32::MAX);
        for field in [
            (wall_ns / 1_000_000_000) as u32,
            (wall_ns % 1_000_000_000) as u32,
            size(bytes.len()),
            size(received.original_len),
        ] {
            self.out.write_all(&field.to_ne_bytes())?;
        }
        // The cooked header: direction (0 to us, 4 from us), hardware, no address, EtherType.
        self.out.write_all(&(if received.outgoing { 4u16 } else { 0 }).to_be_bytes())?;
        self.out.write_all(&received.hardware.to_be_bytes())?;
        self.out.write_all(&[0; 10])?;
        self.out.write_all(&received.protocol.to_be_bytes())?;
        self.out.write_all(bytes)
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
