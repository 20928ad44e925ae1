//! The kernel's words about TCP sockets: requests and their filter programs out, flows in (linux/inet_diag.h).

use std::fmt;
use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_BC_JMP: u8 = 1;
const INET_DIAG_BC_S_COND: u8 = 7;
/// The length of every netlink message's header.
const HEADER: usize = 16;
/// The length of a filter program's jump.
const JUMP: u16 = 4;
/// Every socket is held against every address of a program, one after the other.
const ADDRESSES_IN_A_PROGRAM: usize = 256;

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

/// Where a flow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// From the SYN to the last ACK: something may still be sent.
    Open,
    /// TIME_WAIT.
    Ended,
}

/// A TCP flow, as the kernel names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    family: u8,
    stage: Stage,
    /// `struct inet_diag_sockid`: ports, addresses, interface, and a cookie that no later flow will have.
    id: [u8; 48],
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Flow(Flow),
    /// The end of a dump, or the acknowledgement of an order.
    End,
    /// Nothing that we know.
    Other,
}

/// The stages in the order of the kernel's states (include/net/tcp_states.h); what is not a flow, or not yet, has none.
/// A half-open one is 3 and not 12 outside the kernel.
const STAGES: [Option<Stage>; 12] = [
    None,
    Some(Stage::Open), // ESTABLISHED
    None,              // SYN_SENT: nobody has come to us
    Some(Stage::Open), // SYN_RECV
    Some(Stage::Open), // FIN_WAIT1
    Some(Stage::Open), // FIN_WAIT2
    Some(Stage::Ended),
    None,              // CLOSE
    Some(Stage::Open), // CLOSE_WAIT
    Some(Stage::Open), // LAST_ACK
    None,              // LISTEN
    Some(Stage::Open), // CLOSING
];

impl Flow {
    /// Our side of it. IPv4 is IPv4, also on a socket of IPv6.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.address(4, 0)
    }

    /// The other side of it.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.address(20, 2)
    }

    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    fn address(&self, at: usize, port_at: usize) -> SocketAddr {
        let mut octets = [0; 16];
        octets.copy_from_slice(&self.id[at..at + 16]);
        let address = match (self.family, octets) {
            (AF_INET, [a, b, c, d, ..]) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(octets)).to_canonical(),
        };
        SocketAddr::new(address, u16::from_be_bytes([self.id[port_at], self.id[port_at + 1]]))
    }

    /// Reads a `struct inet_diag_msg`; `None` if it is none, or of a socket that is no flow.
    fn parse(octets: &[u8]) -> Option<Self> {
        let (&[family, state, _, _], rest) = octets.split_first_chunk()?;
        let stage = *STAGES.get(usize::from(state))?;
        let flow = Self { family, stage: stage?, id: *rest.first_chunk()? };
        matches!(family, AF_INET | AF_INET6).then_some(flow)
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.local(), self.remote())
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.stage)
    }
}

/// The requests that together are answered with every flow whose local address is one of these, each once.
pub(super) fn dumps(addresses: &[IpAddr]) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = addresses.iter().map(IpAddr::to_canonical).collect();
    all.sort_unstable();
    all.dedup();
    let (v4, _) = all.split_at(all.partition_point(IpAddr::is_ipv4));
    let states = (0..).zip(STAGES).filter(|(_, stage)| stage.is_some());
    let states = states.fold(0u32, |states, (state, _)| states | 1 << state);
    let mut requests = Vec::new();
    // A dump tells of sockets of one family; those of IPv6 may have IPv4 addresses too.
    for (family, addresses) in [(AF_INET, v4), (AF_INET6, &all[..])] {
        for part in addresses.chunks(ADDRESSES_IN_A_PROGRAM) {
            let program = program(part);
            let mut body = question(family, states, &[0; 48]);
            body.extend((program.len() as u16 + 4).to_ne_bytes());
            body.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
            body.extend(program);
            requests.push(request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &body));
        }
    }
    requests
}

/// The order to end this flow, answered by [`Message::End`].
pub(super) fn destroy(flow: &Flow) -> Vec<u8> {
    request(SOCK_DESTROY, NLM_F_ACK, &question(flow.family, 0, &flow.id))
}

/// The messages of one datagram. After a mistake there are none.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<Message>> + '_ {
    let mut rest = datagram;
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = message(&mut rest);
        if message.is_none() {
            rest = &[];
        }
        Some(
            message
                .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::InvalidData, "netlink was cut short"))),
        )
    })
}

/// Takes one message; `None` if it is not whole.
fn message(rest: &mut &[u8]) -> Option<io::Result<Message>> {
    let (length, _) = rest.split_first_chunk()?;
    let length = u32::from_ne_bytes(*length) as usize;
    let body = rest.get(HEADER..length)?;
    let kind = u16::from_ne_bytes([rest[4], rest[5]]);
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(match kind {
        SOCK_DIAG_BY_FAMILY => Ok(Flow::parse(body).map_or(Message::Other, Message::Flow)),
        // Both begin with what became of it: zero, or an error, negative.
        NLMSG_ERROR | NLMSG_DONE => match i32::from_ne_bytes(*body.first_chunk()?) {
            error if error < 0 => Err(io::Error::from_raw_os_error(error.saturating_neg())),
            _ => Ok(Message::End),
        },
        _ => Ok(Message::Other),
    })
}

/// A `struct inet_diag_req_v2` about TCP.
fn question(family: u8, states: u32, id: &[u8; 48]) -> Vec<u8> {
    let mut body = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(id);
    body
}

fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // The sequence number and our port: each socket asks one thing.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The kernel's filter for "the local address is one of these": it accepts at exactly its end, and refuses past it.
/// Each test skips the jump behind it when it fails; that jump leads to the end.
fn program(addresses: &[IpAddr]) -> Vec<u8> {
    let tests = addresses.iter().map(test);
    let mut left: usize = addresses.iter().map(|address| test(address).len() + usize::from(JUMP)).sum();
    let mut program = Vec::with_capacity(left);
    for test in tests {
        left -= test.len() + usize::from(JUMP);
        program.extend(test);
        if left > 0 {
            program.extend([INET_DIAG_BC_JMP, JUMP as u8]);
            program.extend((left as u16).to_ne_bytes());
        }
    }
    program
}

/// A `struct inet_diag_bc_op` with its `struct inet_diag_hostcond`: any port of this address. One of IPv4 also finds
/// the sockets of IPv6 that have it.
fn test(address: &IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    };
    let length = 12 + octets.len() as u8;
    let mut test = vec![INET_DIAG_BC_S_COND, length];
    test.extend((u16::from(length) + JUMP).to_ne_bytes());
    test.extend([family, 8 * octets.len() as u8, 0, 0]);
    test.extend((-1i32).to_ne_bytes());
    test.extend(octets);
    test
}

#[cfg(test)]
pub(super) mod tests;
