//! Handshakes with a right MAC1 and nothing else right, each from another address.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};

use crate::wireguard::key;
use crate::wireguard::message::{COOKIE_REPLY, Forger, RESPONSE};

/// How many wait for an answer at once; at 1,000 a second that is a quarter of a second.
const MOST_OPEN: usize = 256;

/// Who is attacked, and from where it seems to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forged {
    /// The public key of whom it goes to, in base64.
    #[serde(deserialize_with = "public_key")]
    pub public_key: [u8; 32],
    /// A /48 that leads to the attacker; each message is from another /64 of it, and no limit of a source holds it.
    pub sources: Ipv6Addr,
}

/// Sends, and looks at what comes back.
#[derive(Debug)]
pub struct Forgery {
    forger: Forger,
    sources: Ipv6Addr,
    open: VecDeque<UdpSocket>,
}

/// What came back so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Handshake responses: somebody believed a forgery.
    pub responses: usize,
    pub cookies: usize,
}

impl Forgery {
    pub fn new(forged: &Forged) -> Self {
        Self { forger: Forger::new(&forged.public_key), sources: forged.sources, open: VecDeque::new() }
    }

    /// One message; what the oldest of those that wait was answered, if too many wait.
    pub fn send(&mut self, target: SocketAddr, index: usize) -> io::Result<Answers> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_freebind_v6(true)?;
        let from = SocketAddr::new(IpAddr::V6(spread(self.sources, index)), 0);
        socket.bind(&from.into())?;
        socket.send_to(&self.forger.initiation(index as u64), &target.into())?;
        self.open.push_back(socket.into());
        let late = (self.open.len() > MOST_OPEN).then(|| self.open.pop_front()).flatten();
        Ok(late.map_or_else(Answers::default, |socket| answers(&socket)))
    }

    /// What those were answered that wait still.
    pub fn rest(&mut self) -> Answers {
        self.open.drain(..).map(|socket| answers(&socket)).fold(Answers::default(), |sum, one| Answers {
            responses: sum.responses + one.responses,
            cookies: sum.cookies + one.cookies,
        })
    }
}

/// Another /64 of a /48 each time.
fn spread(net: Ipv6Addr, index: usize) -> Ipv6Addr {
    let host = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let subnet = u128::from(index as u16) << 64;
    Ipv6Addr::from(u128::from(net) & (u128::MAX << 80) | subnet | u128::from(host))
}

fn answers(socket: &UdpSocket) -> Answers {
    let mut answers = Answers::default();
    let mut buffer = [0; 256];
    // Errors are an empty socket, or ICMP.
    while let Ok(count) = socket.recv(&mut buffer) {
        match buffer[..count].first() {
            Some(&RESPONSE) => answers.responses += 1,
            Some(&COOKIE_REPLY) => answers.cookies += 1,
            _ => {}
        }
    }
    answers
}

fn public_key<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    key::decode(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
