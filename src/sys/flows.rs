//! What the kernel knows of TCP flows to some of this machine's addresses (sock_diag(7)).
//!
//! The kernel walks its whole table of sockets at each look, inside one system call where nothing matches: tens of
//! milliseconds on a machine with a million. Never look from a thread that must be on time.

mod census;
mod wire;

use std::io;
use std::net::IpAddr;

use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

pub use census::{Census, Traffic};
pub use wire::{Flow, Stage};

use wire::Message;

/// Flows that a look keeps, in 50 octets each; more are only counted.
pub const MOST_KEPT: usize = 1_000_000;
/// The kernel fills at most this much of a buffer with one datagram of a dump.
const DATAGRAM: usize = 32 << 10;

/// The flows of one moment. They are told once each, in no order.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// At most [`MOST_KEPT`].
    pub flows: Vec<Flow>,
    /// How many are open, kept or not.
    pub open: usize,
    /// How many have lived and ended a moment ago (TIME_WAIT), kept or not.
    pub ended: usize,
}

/// Reads the flows whose local address is one of these, on sockets of either family. A flow that the other side
/// closed first leaves nothing to be seen once it has ended.
///
/// # Errors
/// The kernel's; the words say what to do.
pub async fn look(addresses: &[IpAddr]) -> io::Result<Look> {
    let mut look = Look::default();
    for request in wire::dumps(addresses) {
        ask(&request, |flow| look.add(flow)).await.map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::EPROTONOSUPPORT) => {
                let words = "the kernel does not tell of TCP sockets: load its module tcp_diag";
                io::Error::new(io::ErrorKind::Unsupported, words)
            }
            _ => io::Error::new(error.kind(), format!("cannot read TCP flows: {error}")),
        })?;
    }
    Ok(look)
}

/// Ends a flow: its owner reads ECONNABORTED, the other side is sent a RST. One that has ended meanwhile is no failure,
/// and a later flow between the same ports is left alone.
///
/// # Errors
/// The kernel's; the words say what to do.
pub async fn destroy(flow: &Flow) -> io::Result<()> {
    ask(&wire::destroy(flow), |_| ()).await.or_else(|error| {
        let why = match error.raw_os_error() {
            Some(libc::ENOENT) => return Ok(()),
            Some(libc::EPERM) => {
                "edgeproxy needs CAP_NET_ADMIN to end the flows of other processes".to_owned()
            }
            Some(libc::EOPNOTSUPP) => "this kernel is built without CONFIG_INET_DIAG_DESTROY".to_owned(),
            _ => error.to_string(),
        };
        Err(io::Error::new(error.kind(), format!("cannot end the flow {flow}: {why}")))
    })
}

impl Look {
    /// Counts a flow, and keeps it if there is room.
    pub fn add(&mut self, flow: Flow) {
        match flow.stage() {
            Stage::Open => self.open += 1,
            Stage::Ended => self.ended += 1,
        }
        if self.flows.len() < MOST_KEPT {
            self.flows.push(flow);
        }
    }
}

/// One request and all of its answer. Its socket is its own: a look that is given up half way leaves nothing behind
/// for the next one.
async fn ask(request: &[u8], mut each: impl FnMut(Flow)) -> io::Result<()> {
    let socket = TokioSocket::new(NETLINK_SOCK_DIAG)?;
    // Only the kernel may answer.
    socket.socket_ref().connect(&SocketAddr::new(0, 0))?;
    socket.send(request).await?;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        socket.recv(&mut datagram).await?;
        for message in wire::messages(&datagram) {
            match message? {
                Message::Flow(flow) => each(flow),
                Message::End => return Ok(()),
                Message::Other => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
