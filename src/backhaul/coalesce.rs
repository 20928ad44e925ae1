//! Merges packets of one flow that follow each other into one of up to 64 KiB, as the kernel's GRO does (IPv6).

use std::ops::Range;

use super::checksum::Sum;
use super::offload::{Gso, Offload};

/// Flows that are looked at at once: as many as the kernel's GRO has, and enough that a batch of long packets that is
/// evenly mixed from more of them has little to merge anyway.
const FLOWS: usize = 64;
/// Packets of a group: what the kernel takes of UDP (UDP_MAX_SEGMENTS), and of parts in one write.
const PACKETS: usize = 64;
/// Octets of a group behind the IPv6 header. The whole is no longer than what the kernel's GRO makes (GRO_LEGACY_MAX_SIZE):
/// anything longer would be cut again where it is forwarded.
const OCTETS: usize = 65_535 - 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// Merges batch after batch, in memory of its own that stays.
#[derive(Debug)]
pub struct Coalescer {
    udp: bool,
    tcp: bool,
    groups: Vec<Merged>,
    used: usize,
    /// Groups that may grow, with the keys of their flows, the latest last.
    open: Vec<(u64, usize)>,
}

/// Packets to be written as one: the parts follow the ten octets of the offload.
#[derive(Debug, Clone, Copy)]
pub struct Group<'c> {
    pub offload: Offload,
    pub parts: &'c [Range<usize>],
}

#[derive(Debug, Default)]
struct Merged {
    offload: Offload,
    parts: Vec<Range<usize>>,
    flow: Flow,
    /// The sequence number that follows.
    next: u32,
    /// Octets behind the IPv6 header.
    octets: usize,
    verified: bool,
    pushed: bool,
}

/// What all packets of a group share, and where its parts are.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    protocol: u8,
    header: usize,
    /// Payload of each packet but the last.
    size: usize,
}

/// What decides about one packet.
struct Shape {
    flow: Flow,
    /// The same for all packets of a flow; not only theirs.
    key: u64,
    sequence: u32,
    pushed: bool,
    /// It can be part of a group.
    merges: bool,
}

impl Coalescer {
    /// What may be merged: whatever the interface takes.
    #[must_use]
    pub fn new(tcp: bool, udp: bool) -> Self {
        Self { udp, tcp, groups: Vec::new(), used: 0, open: Vec::with_capacity(FLOWS) }
    }

    /// Groups the packets that lie in `arena`. The headers of groups are changed in place.
    ///
    /// INVARIANT: groups stand in the order of their first packets, and no packet overtakes another of its flow.
    pub fn coalesce(&mut self, arena: &mut [u8], packets: &[Range<usize>]) {
        self.used = 0;
        self.open.clear();
        for range in packets {
            self.place(arena, range.clone());
        }
        for group in &mut self.groups[..self.used] {
            group.finish(arena);
        }
    }

    /// What the last batch became.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.groups[..self.used].iter().map(|group| Group { offload: group.offload, parts: &group.parts })
    }

    fn place(&mut self, arena: &[u8], range: Range<usize>) {
        let packet = &arena[range.clone()];
        let Some(shape) = Shape::of(packet) else {
            // Whose it is cannot be said: nothing may be put in front of it.
            self.open.clear();
            self.begin(range, None);
            return;
        };
        let first = |at: usize| &arena[self.groups[at].parts[0].clone()];
        let found = self.open.iter().position(|(key, at)| *key == shape.key && same_flow(first(*at), packet));
        let allowed = shape.merges && if shape.flow.protocol == TCP { self.tcp } else { self.udp };
        if let Some(position) = found {
            let (_, at) = self.open[position];
            let group = &mut self.groups[at];
            let size = packet.len() - shape.flow.header;
            if allowed
                && group.takes(&arena[group.parts[0].clone()], packet, &shape)
                && group.verify(arena)
                && right(packet)
            {
                group.parts.push(range.start + shape.flow.header..range.end);
                group.octets += size;
                group.next = group.next.wrapping_add(size as u32);
                group.pushed |= shape.pushed;
                if shape.pushed || size < group.flow.size || group.parts.len() == PACKETS {
                    self.open.remove(position);
                }
                return;
            }
            self.open.remove(position);
        }
        self.begin(range, Some(shape).filter(|shape| allowed && !shape.pushed));
    }

    /// A group of its own, which may grow if it has a shape.
    fn begin(&mut self, range: Range<usize>, shape: Option<Shape>) {
        if self.used == self.groups.len() {
            self.groups.push(Merged::default());
        }
        let group = &mut self.groups[self.used];
        group.parts.clear();
        group.octets = range.len().saturating_sub(40);
        group.parts.push(range);
        group.offload = Offload::default();
        (group.verified, group.pushed) = (false, false);
        if let Some(shape) = shape {
            group.flow = shape.flow;
            group.next = shape.sequence.wrapping_add(shape.flow.size as u32);
            if self.open.len() == FLOWS {
                self.open.remove(0);
            }
            self.open.push((shape.key, self.used));
        }
        self.used += 1;
    }
}

impl Merged {
    /// Whether a packet of the same flow continues this group.
    fn takes(&self, first: &[u8], packet: &[u8], shape: &Shape) -> bool {
        let (flow, header) = (self.flow, self.flow.header);
        let alike = shape.flow.protocol == flow.protocol
            && shape.flow.header == header
            && shape.flow.size <= flow.size
            && self.octets + shape.flow.size <= OCTETS
            // Version, class and label; next header and hop limit.
            && first[..4] == packet[..4]
            && first[6..8] == packet[6..8];
        // Acknowledgement, length and reserved bits, window, urgent pointer (which may hold anything), options. Flags were
        // looked at by themselves.
        alike
            && (flow.protocol == UDP
                || shape.sequence == self.next
                    && first[48..53] == packet[48..53]
                    && first[54..56] == packet[54..56]
                    && first[58..header] == packet[58..header])
    }

    /// The first packet's checksum is looked at when a second comes.
    fn verify(&mut self, arena: &[u8]) -> bool {
        self.verified = self.verified || right(&arena[self.parts[0].clone()]);
        self.verified
    }

    fn finish(&mut self, arena: &mut [u8]) {
        if self.parts.len() < 2 {
            return;
        }
        let Flow { protocol, header, size } = self.flow;
        let packet = &mut arena[self.parts[0].clone()];
        packet[4..6].copy_from_slice(&(self.octets as u16).to_be_bytes());
        let offset = if protocol == TCP {
            if self.pushed {
                packet[53] |= PSH;
            }
            16
        } else {
            packet[44..46].copy_from_slice(&(self.octets as u16).to_be_bytes());
            6
        };
        let sum = Sum::default().pseudo(&packet[8..40], protocol, self.octets).folded();
        packet[40 + offset..42 + offset].copy_from_slice(&sum.to_be_bytes());
        self.offload = Offload {
            needs_checksum: true,
            kind: if protocol == TCP { Gso::Tcp6 } else { Gso::Udp },
            header: header as u16,
            size: size as u16,
            checksum_start: 40,
            checksum_offset: offset as u16,
        };
    }
}

impl Shape {
    /// None: not TCP or UDP right behind an IPv6 header, or not whole.
    fn of(packet: &[u8]) -> Option<Self> {
        let ip: &[u8; 40] = packet.first_chunk()?;
        let inside = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        if ip[0] >> 4 != 6 || packet.len() != 40 + inside {
            return None;
        }
        match ip[6] {
            TCP => {
                let tcp: &[u8; 20] = packet[40..].first_chunk()?;
                let header = 40 + usize::from(tcp[12] >> 4) * 4;
                if header < 60 || header > packet.len() {
                    return None;
                }
                let size = packet.len() - header;
                let flags = tcp[13];
                Some(Self {
                    flow: Flow { protocol: TCP, header, size },
                    key: key(packet),
                    sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
                    pushed: flags & PSH != 0,
                    // A checksum of 0xffff is right where 0 would be, and would come out as 0.
                    merges: size > 0 && flags & !PSH == ACK && tcp[16..18] != [0xff, 0xff],
                })
            }
            UDP => {
                let udp: &[u8; 8] = packet[40..].first_chunk()?;
                let size = packet.len() - 48;
                let whole = usize::from(u16::from_be_bytes([udp[4], udp[5]])) == inside;
                let flow = Flow { protocol: UDP, header: 48, size };
                Some(Self {
                    flow,
                    key: key(packet),
                    sequence: 0,
                    pushed: false,
                    merges: whole && size > 0 && udp[6..8] != [0, 0],
                })
            }
            _ => None,
        }
    }
}

/// Ports and the latter halves of the addresses, of a packet that has a shape.
fn key(packet: &[u8]) -> u64 {
    let half = |at: usize| packet[at..].first_chunk().map_or(0, |octets| u64::from_ne_bytes(*octets));
    let ports = packet[40..].first_chunk().map_or(0, |octets| u32::from_ne_bytes(*octets));
    half(16).rotate_left(32) ^ half(32) ^ u64::from(ports).rotate_left(16)
}

/// Same addresses, protocol and ports, of packets that have a shape.
fn same_flow(one: &[u8], other: &[u8]) -> bool {
    one[8..44] == other[8..44] && one[6] == other[6]
}

/// Whether the checksum of TCP or UDP is right.
fn right(packet: &[u8]) -> bool {
    Sum::default().pseudo(&packet[8..40], packet[6], packet.len() - 40).add(&packet[40..]).folded() == 0xffff
}

#[cfg(test)]
mod tests;
