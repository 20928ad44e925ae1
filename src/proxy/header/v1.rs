//! Version 1: one line of text (§2.1).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Decoded, Header, agree, canonical};

/// The longest line, its end included.
const MOST: usize = 107;
/// The ways in which a line begins.
const BEGINNINGS: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];

pub(super) fn decode(octets: &[u8]) -> Decoded {
    if !BEGINNINGS.iter().any(|beginning| agree(octets, beginning)) {
        return Decoded::Refused("no PROXY header");
    }
    let line = &octets[..octets.len().min(MOST)];
    let Some(end) = line.iter().position(|&octet| octet == b'\n') else {
        return match line.len() < MOST {
            true => Decoded::NeedMore,
            false => Decoded::Refused("a PROXY line longer than 107 octets"),
        };
    };
    let Some(line) = line[..end].strip_suffix(b"\r") else {
        return Decoded::Refused("a PROXY line that does not end as it must");
    };
    match read(line) {
        Some((source, destination)) => {
            Decoded::Header(Header { source, destination, consumed: end + 1, ..Header::default() })
        }
        None => Decoded::Refused("a PROXY line without the addresses that it announces"),
    }
}

fn read(line: &[u8]) -> Option<(Option<SocketAddr>, Option<SocketAddr>)> {
    // Whatever else stands there is not for us, not even if it is no text.
    if let Some(rest) = line.strip_prefix(b"PROXY UNKNOWN") {
        return rest.first().is_none_or(|&octet| octet == b' ').then_some((None, None));
    }
    let mut words = str::from_utf8(line).ok()?.split(' ').skip(1);
    let family = words.next()?;
    let (from, to) = (words.next()?, words.next()?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let (from, to) = match family {
        "TCP4" => both::<Ipv4Addr>(from, to)?,
        _ => both::<Ipv6Addr>(from, to)?,
    };
    Some((Some(canonical(from, from_port)), Some(canonical(to, to_port))))
}

fn both<A: FromStr + Into<IpAddr>>(from: &str, to: &str) -> Option<(IpAddr, IpAddr)> {
    Some((from.parse::<A>().ok()?.into(), to.parse::<A>().ok()?.into()))
}

/// Digits only, and no zero in front.
fn port(word: &str) -> Option<u16> {
    let is_number = word.bytes().all(|octet| octet.is_ascii_digit());
    let is_octal = word.len() > 1 && word.starts_with('0');
    if is_number && !is_octal { word.parse().ok() } else { None }
}

/// Writes a line for a connection from `source` that came to `destination`. An IPv4 address beside an IPv6 one is
/// written mapped.
pub fn encode(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let ports = (source.port(), destination.port());
    let written = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            write!(out, "PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1)
        }
        (from, to) => {
            // §2.1 knows hexadecimal digits only, where Rust writes `::ffff:192.0.2.1`.
            let (from, to) = (Digits(from), Digits(to));
            write!(out, "PROXY TCP6 {from} {to} {} {}\r\n", ports.0, ports.1)
        }
    };
    written.expect("a Vec takes what it is given");
}

/// Shows an address as one of IPv6, without dots.
struct Digits(IpAddr);

impl std::fmt::Display for Digits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V6(ip) => ip.fmt(f),
            IpAddr::V4(ip) => {
                let [.., high, low] = ip.to_ipv6_mapped().segments();
                write!(f, "::ffff:{high:x}:{low:x}")
            }
        }
    }
}
