//! The PROXY protocol: who a connection is really from, said in its first octets (haproxy's proxy-protocol.txt).
//!
//! Pure, over the octets as they came. Whether a source may send a header at all is for the configuration to say, never
//! for the octets (§5 there): whoever calls [`decode`] expects one, and refuses the connection without.

mod crc32c;
pub mod v1;
pub mod v2;

use std::net::{IpAddr, SocketAddr};

/// The longest header that is taken, of either version; more is refused before it is read.
pub const MOST: usize = 4 << 10;

/// What is known of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// The first octets of one; there must be more.
    NeedMore,
    Header(Header),
    /// Not a header, or not as it must be: in words.
    Refused(&'static str),
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The client. None: those of the connection itself hold. Never a mapped IPv4 address (RFC 4291 §2.5.5.2).
    pub source: Option<SocketAddr>,
    /// Where the client went; as `source`.
    pub destination: Option<SocketAddr>,
    /// The sender speaks for itself: a check, not a client.
    pub local: bool,
    /// The length of the header: what follows is the client's.
    pub consumed: usize,
    /// The protocol that the sender agreed on with the client (RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// The server name that the client asked for; as it came, up to 255 octets.
    pub authority: Option<String>,
    /// The client spoke TLS with the sender.
    pub tls: bool,
    /// The service and the backend that another POP wants; see [`v2::TARGET`].
    pub target: Option<(String, String)>,
}

/// Reads a header off the front of a stream.
#[must_use]
pub fn decode(octets: &[u8]) -> Decoded {
    // §2.2: the two versions differ in their first octet, and so does everything that is neither.
    match octets.first() {
        None => Decoded::NeedMore,
        Some(b'P') => v1::decode(octets),
        Some(b'\r') => v2::decode(octets),
        Some(_) => Decoded::Refused("no PROXY header"),
    }
}

/// Whether one of the two begins with the other.
fn agree(octets: &[u8], wanted: &[u8]) -> bool {
    octets.iter().zip(wanted).all(|(octet, wanted)| octet == wanted)
}

/// An IPv4 address that is written as an IPv6 one is an IPv4 address: limits and affinity go by it.
fn canonical(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into().to_canonical(), port)
}

#[cfg(test)]
mod tests;
