//! Membership on the wire: who a member is, and foca's messages in octets.

use bytes::{Buf, BufMut};
use foca::{Header, Identity, Member, Message, State};

use super::super::octets::{Malformed, Reader, put_number};
use super::super::version::Origin;

/// First octet of its datagrams.
pub const KIND: u8 = 1;

/// A POP, in one of its lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: Origin,
    pub(super) life: u64,
}

impl Identity for Node {
    type Addr = Origin;

    fn renew(&self) -> Option<Self> {
        Some(Self { name: self.name.clone(), life: self.life.checked_add(1)? })
    }

    fn addr(&self) -> Origin {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

impl Node {
    fn put(&self, into: &mut Vec<u8>) {
        self.name.put(into);
        put_number(into, self.life);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { name: Origin::read(reader)?, life: reader.number("life")? })
    }
}

/// Who says that it has sent this.
pub(super) fn sender(packet: &[u8]) -> Result<Origin, Malformed> {
    Origin::read(&mut Reader::new(packet))
}

/// Of foca's messages.
pub(super) struct Codec;

impl foca::Codec<Node> for Codec {
    type Error = Malformed;

    fn encode_header(&mut self, header: &Header<Node>, buf: impl BufMut) -> Result<(), Malformed> {
        let mut octets = Vec::with_capacity(128);
        header.src.put(&mut octets);
        octets.extend(header.src_incarnation.to_be_bytes());
        header.dst.put(&mut octets);
        let (tag, number, node) = match &header.message {
            Message::Ping(number) => (0, Some(*number), None),
            Message::Ack(number) => (1, Some(*number), None),
            Message::PingReq { target, probe_number } => (2, Some(*probe_number), Some(target)),
            Message::IndirectPing { origin, probe_number } => (3, Some(*probe_number), Some(origin)),
            Message::IndirectAck { target, probe_number } => (4, Some(*probe_number), Some(target)),
            Message::ForwardedAck { origin, probe_number } => (5, Some(*probe_number), Some(origin)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        octets.push(tag);
        octets.extend(number);
        if let Some(node) = node {
            node.put(&mut octets);
        }
        fit(&octets, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Node>, Malformed> {
        read(buf, |reader| {
            let src = Node::read(reader)?;
            let src_incarnation = reader.short("incarnation")?;
            let dst = Node::read(reader)?;
            let tag = reader.octet("message")?;
            let probe_number = if tag <= 5 { reader.octet("probe")? } else { 0 };
            let message = match tag {
                0 => Message::Ping(probe_number),
                1 => Message::Ack(probe_number),
                2 => Message::PingReq { target: Node::read(reader)?, probe_number },
                3 => Message::IndirectPing { origin: Node::read(reader)?, probe_number },
                4 => Message::IndirectAck { target: Node::read(reader)?, probe_number },
                5 => Message::ForwardedAck { origin: Node::read(reader)?, probe_number },
                6 => Message::Announce,
                7 => Message::Feed,
                8 => Message::Gossip,
                9 => Message::Broadcast,
                10 => Message::TurnUndead,
                _ => return Err(Malformed("message")),
            };
            Ok(Header { src, src_incarnation, dst, message })
        })
    }

    fn encode_member(&mut self, member: &Member<Node>, buf: impl BufMut) -> Result<(), Malformed> {
        let mut octets = Vec::with_capacity(48);
        member.id().put(&mut octets);
        octets.extend(member.incarnation().to_be_bytes());
        octets.push(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        fit(&octets, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Node>, Malformed> {
        read(buf, |reader| {
            let node = Node::read(reader)?;
            let incarnation = reader.short("incarnation")?;
            let state = match reader.octet("state")? {
                0 => State::Alive,
                1 => State::Suspect,
                2 => State::Down,
                _ => return Err(Malformed("state")),
            };
            Ok(Member::new(node, incarnation, state))
        })
    }
}

/// All of it or nothing.
fn fit(octets: &[u8], mut buf: impl BufMut) -> Result<(), Malformed> {
    if buf.remaining_mut() < octets.len() {
        return Err(Malformed("too long for one packet"));
    }
    buf.put_slice(octets);
    Ok(())
}

fn read<T>(
    mut buf: impl Buf,
    one: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut reader = Reader::new(buf.chunk());
    let read = one(&mut reader)?;
    let left = reader.rest().len();
    buf.advance(buf.chunk().len() - left);
    Ok(read)
}
