//! Cuts a packet of up to 64 KiB, as a TUN gives it, into packets of the wire, where it lies (TSO and USO for IPv6).

use super::checksum::Sum;
use super::offload::{Gso, Malformed, Offload};

/// The longest headers: IPv6 with a few extensions, and TCP with all options.
const MOST_HEADER: usize = 256;
/// Octets of an IPv6 header, and the most that it can say are behind it.
const IP: usize = 40;
const MOST_INSIDE: usize = 65_535;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN_PSH: u8 = 0x01 | 0x08;
const CWR: u8 = 0x80;

/// The packets that one packet becomes. Each is valid until the next is asked for: its header is written again right
/// before its payload, over octets that have been handed out already.
#[derive(Debug)]
pub struct Segments<'p> {
    packet: &'p mut [u8],
    header: [u8; MOST_HEADER],
    /// Octets of all headers; 0: the packet is handed out as it is.
    length: usize,
    /// Where TCP or UDP begins.
    layer: usize,
    protocol: u8,
    /// The sum of the pseudo-header without the length.
    pseudo: Sum,
    size: usize,
    /// Octets of payload that were handed out.
    done: usize,
    ended: bool,
}

impl<'p> Segments<'p> {
    /// `most`: the longest packet that may come out. TCP is cut smaller for it; UDP is not, as its bounds mean something.
    ///
    /// # Errors
    /// What `offload` says does not fit the packet.
    pub fn new(offload: Offload, packet: &'p mut [u8], most: usize) -> Result<Self, Malformed> {
        let protocol = match offload.kind {
            Gso::None => {
                complete(offload, packet)?;
                return Ok(Self {
                    packet,
                    header: [0; MOST_HEADER],
                    length: 0,
                    layer: 0,
                    protocol: 0,
                    pseudo: Sum::default(),
                    size: 0,
                    done: 0,
                    ended: false,
                });
            }
            Gso::Tcp6 => TCP,
            Gso::Udp => UDP,
            Gso::Tcp4 => return Err(Malformed),
        };
        // Where the kernel knows the checksum to be right already (packets that it forwards), it says nothing about it.
        let layer = if offload.needs_checksum { usize::from(offload.checksum_start) } else { IP };
        // The kernel's own word for the length of the headers is only a hint.
        let own = match protocol {
            TCP => usize::from(packet.get(layer + 12).ok_or(Malformed)? >> 4) * 4,
            _ => 8,
        };
        let length = layer + own;
        let mut size = usize::from(offload.size);
        if protocol == TCP {
            size = size.min(most.saturating_sub(length));
        }
        let fits = layer >= IP && own >= if protocol == TCP { 20 } else { 8 } && length <= MOST_HEADER;
        if !fits
            || size == 0
            || length >= packet.len()
            || packet.len() > IP + MOST_INSIDE
            || packet[0] >> 4 != 6
        {
            return Err(Malformed);
        }
        let pseudo = if offload.needs_checksum {
            if usize::from(offload.checksum_offset) != field(protocol) {
                return Err(Malformed);
            }
            // What stands there is right with a routing header as well, whose target is not the header's (RFC 8200
            // §8.1). The length of the whole is taken off: ones' complement subtracts by adding the complement.
            let at = layer + field(protocol);
            let whole = packet.len() - layer;
            Sum::default().word(u16::from_be_bytes([packet[at], packet[at + 1]])).word(!(whole as u16))
        } else if packet[6] == protocol {
            Sum::default().pseudo(&packet[8..IP], protocol, 0)
        } else {
            return Err(Malformed);
        };
        let mut header = [0; MOST_HEADER];
        header[..length].copy_from_slice(&packet[..length]);
        Ok(Self { packet, header, length, layer, protocol, pseudo, size, done: 0, ended: false })
    }

    /// Octets of the longest packet that comes out.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self.length {
            0 => self.packet.len(),
            length => length + self.size.min(self.packet.len() - length),
        }
    }

    /// The next packet.
    #[expect(clippy::should_implement_trait, reason = "it lends, which an iterator cannot")]
    pub fn next(&mut self) -> Option<&[u8]> {
        if self.ended {
            return None;
        }
        if self.length == 0 {
            self.ended = true;
            return Some(self.packet);
        }
        let (length, layer) = (self.length, self.layer);
        let first = self.done == 0;
        let size = self.size.min(self.packet.len() - length - self.done);
        self.ended = length + self.done + size == self.packet.len();
        let segment = &mut self.packet[self.done..][..length + size];
        segment[..length].copy_from_slice(&self.header[..length]);
        let inside = length - IP + size;
        segment[4..6].copy_from_slice(&(inside as u16).to_be_bytes());
        let carried = length - layer + size;
        if self.protocol == TCP {
            let sequence: [u8; 4] = [0, 1, 2, 3].map(|at| self.header[layer + 4 + at]);
            let sequence = u32::from_be_bytes(sequence).wrapping_add(self.done as u32);
            segment[layer + 4..layer + 8].copy_from_slice(&sequence.to_be_bytes());
            // The end belongs to the last, and the answer to a congestion mark to the first (RFC 3168 §6.1.2).
            if !self.ended {
                segment[layer + 13] &= !FIN_PSH;
            }
            if !first {
                segment[layer + 13] &= !CWR;
            }
        } else {
            segment[layer + 4..layer + 6].copy_from_slice(&(carried as u16).to_be_bytes());
        }
        let field = layer + field(self.protocol);
        segment[field..field + 2].fill(0);
        let sum = self.pseudo.word(carried as u16).add(&segment[layer..]);
        let sum = never_zero(sum.complement(), self.protocol);
        segment[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        self.done += size;
        Some(segment)
    }
}

/// Completes a checksum whose field holds the sum of the pseudo-header.
fn complete(offload: Offload, packet: &mut [u8]) -> Result<(), Malformed> {
    if !offload.needs_checksum {
        return Ok(());
    }
    let start = usize::from(offload.checksum_start);
    let field = start + usize::from(offload.checksum_offset);
    if field + 2 > packet.len() {
        return Err(Malformed);
    }
    let sum = Sum::default().add(&packet[start..]).complement();
    // The offset of UDP's field is 6, and no other protocol's for which the two zeroes of ones' complement differ.
    let protocol = if offload.checksum_offset == 6 { UDP } else { TCP };
    packet[field..field + 2].copy_from_slice(&never_zero(sum, protocol).to_be_bytes());
    Ok(())
}

/// Where the checksum is in the header.
fn field(protocol: u8) -> usize {
    if protocol == TCP { 16 } else { 6 }
}

/// RFC 8200 §8.1: in UDP zero would mean that there is no checksum.
fn never_zero(sum: u16, protocol: u8) -> u16 {
    if sum == 0 && protocol == UDP { 0xffff } else { sum }
}

#[cfg(test)]
mod tests;
