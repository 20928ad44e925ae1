//! Version 2: a block of octets, with values of a type and a length behind its addresses (§2.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::crc32c;
use super::{Decoded, Header, MOST, agree, canonical};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const HEAD: usize = 16;
/// The longest header that we send: older receivers read into no more. Values that find no room are left out.
pub const MOST_SENT: usize = 536;
/// The longest id (§2.2.5).
const MOST_UNIQUE_ID: usize = 128;

// §2.2: types of values.
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const TLS: u8 = 0x20;
const TLS_VERSION: u8 = 0x21;
const TLS_COMMON_NAME: u8 = 0x22;
const TLS_CIPHER: u8 = 0x23;
/// The first of those that the protocol leaves to applications (§2.2.8): the id of the POP.
pub const POP: u8 = 0xE0;
/// Said by one POP to the ingress of another: a service, a zero, and a backend of it.
pub const TARGET: u8 = 0xE1;

pub(super) fn decode(octets: &[u8]) -> Decoded {
    if !agree(octets, &SIGNATURE) {
        return Decoded::Refused("no PROXY header");
    }
    let local = match octets.get(12) {
        None => return Decoded::NeedMore,
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Decoded::Refused("a PROXY header of another version or command than we know"),
    };
    // A LOCAL header's family is ignored.
    let family = match octets.get(13) {
        None => return Decoded::NeedMore,
        Some(_) if local => 0,
        Some(&family) if family >> 4 <= 3 && family & 15 <= 2 => family,
        Some(_) => return Decoded::Refused("a PROXY header of a family or transport that there is not"),
    };
    let Some(&[high, low]) = octets.get(14..HEAD) else {
        return Decoded::NeedMore;
    };
    let consumed = HEAD + usize::from(u16::from_be_bytes([high, low]));
    if consumed > MOST {
        return Decoded::Refused("a PROXY header longer than 4 KiB");
    }
    let Some(whole) = octets.get(..consumed) else {
        return Decoded::NeedMore;
    };
    let mut header = Header { local, consumed, ..Header::default() };
    match take_apart(family, whole, &mut header) {
        Ok(()) => Decoded::Header(header),
        Err(why) => Decoded::Refused(why),
    }
}

fn take_apart(family: u8, whole: &[u8], header: &mut Header) -> Result<(), &'static str> {
    let size = match (family >> 4, family & 15) {
        // What follows is of no known form, and to be skipped.
        (0, _) | (_, 0) => return Ok(()),
        (1, _) => 12,
        (2, _) => 36,
        // Names of Unix sockets: nothing that we could use.
        _ => 216,
    };
    let (addresses, values) =
        whole[HEAD..].split_at_checked(size).ok_or("a PROXY header shorter than its addresses")?;
    let both = match addresses.len() {
        12 => Some(addresses_of::<4, Ipv4Addr>(addresses)),
        36 => Some(addresses_of::<16, Ipv6Addr>(addresses)),
        _ => None,
    };
    (header.source, header.destination) = both.unzip();
    let mut checked = false;
    let mut values = Values(values);
    while let Some((kind, value)) = values.next()? {
        match kind {
            ALPN if !value.is_empty() => header.alpn = Some(value.to_vec()),
            AUTHORITY if (1..=255).contains(&value.len()) => {
                header.authority = str::from_utf8(value).ok().map(str::to_owned);
            }
            CRC32C if checked => return Err("a PROXY header with two checksums"),
            CRC32C => {
                checked = true;
                let value: [u8; 4] = value.try_into().map_err(|_| "a PROXY checksum of another length")?;
                // Counted without itself.
                let after = values.0.len();
                let before = whole.len() - after - value.len();
                let sum = crc32c(&[&whole[..before], &[0; 4], &whole[whole.len() - after..]]);
                if sum != u32::from_be_bytes(value) {
                    return Err("a PROXY header that does not match its checksum");
                }
            }
            UNIQUE_ID if value.len() > MOST_UNIQUE_ID => return Err("a PROXY id longer than 128 octets"),
            // §2.2.6: flags, and the outcome of the verification.
            TLS if value.len() < 5 => return Err("a PROXY header with too little about TLS"),
            TLS => header.tls = value[0] & 1 == 1,
            TARGET => {
                let text = str::from_utf8(value).ok().and_then(|text| text.split_once('\0'));
                header.target = text.map(|(service, backend)| (service.to_owned(), backend.to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Source and destination; the octets are two addresses and two ports.
fn addresses_of<const N: usize, A: From<[u8; N]> + Into<IpAddr>>(octets: &[u8]) -> (SocketAddr, SocketAddr) {
    let ip = |at: usize| A::from(octets[at..at + N].try_into().expect("cut to size"));
    let port = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
    (canonical(ip(0), port(2 * N)), canonical(ip(N), port(2 * N + 2)))
}

/// The values that are left.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, &'static str> {
        const SHORT: &str = "a PROXY header that contradicts its own lengths";
        if self.0.is_empty() {
            return Ok(None);
        }
        let (&[kind, high, low], rest) = self.0.split_first_chunk::<3>().ok_or(SHORT)?;
        let (value, rest) =
            rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))).ok_or(SHORT)?;
        self.0 = rest;
        Ok(Some((kind, value)))
    }
}

/// What carries the connection that a header speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp = 1,
    Udp = 2,
}

/// What a header says beside the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extras<'a> {
    /// The protocol that was agreed on with the client.
    pub alpn: Option<&'a [u8]>,
    /// The server name that the client asked for.
    pub authority: Option<&'a str>,
    /// None: the client does not speak TLS with us.
    pub tls: Option<Tls<'a>>,
    /// At most 128 octets.
    pub unique_id: Option<&'a [u8]>,
    /// The id of the POP that the client came to; see [`POP`].
    pub pop: Option<&'a str>,
    /// A service and a backend of it; see [`TARGET`].
    pub target: Option<(&'a str, &'a str)>,
    /// Whether to protect all of it with a checksum.
    pub checksum: bool,
}

/// What is known of a client's TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tls<'a> {
    /// As the protocol has it: `TLSv1.3`.
    pub version: &'a str,
    pub certificate: ClientCertificate,
    pub cipher: Option<&'a str>,
    /// Of the subject of the client's certificate.
    pub common_name: Option<&'a str>,
}

/// Whether the client has shown a certificate, and when. One that did not hold has ended the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    None,
    /// In this connection.
    Now,
    /// In an earlier one of the session that it resumes.
    Before,
}

/// Writes a header for a connection from `source` that came to `destination`. An IPv4 address beside an IPv6 one is
/// written mapped. Never longer than [`MOST_SENT`].
pub fn encode(
    transport: Transport,
    source: SocketAddr,
    destination: SocketAddr,
    extras: &Extras<'_>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend(SIGNATURE);
    out.push(0x21);
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()];
    let transport = transport as u8;
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend([0x10 | transport, 0, 0]);
            out.extend([from.octets(), to.octets()].as_flattened());
        }
        (from, to) => {
            out.extend([0x20 | transport, 0, 0]);
            out.extend([from, to].map(as_v6).as_flattened());
        }
    }
    out.extend(ports.as_flattened());
    if extras.checksum {
        push(out, start, CRC32C, &[0; 4]);
    }
    let checksum_ends = out.len();
    if let Some((service, backend)) = extras.target {
        push(out, start, TARGET, &[service.as_bytes(), &[0], backend.as_bytes()].concat());
    }
    // The most useful first: what comes last finds no room if any.
    if let Some(tls) = &extras.tls {
        push_tls(out, start, tls);
    }
    let texts = [(AUTHORITY, extras.authority), (POP, extras.pop)];
    let values = [(ALPN, extras.alpn), (UNIQUE_ID, extras.unique_id.filter(|id| id.len() <= MOST_UNIQUE_ID))];
    for (kind, value) in texts.map(|(kind, text)| (kind, text.map(str::as_bytes))).into_iter().chain(values) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            push(out, start, kind, value);
        }
    }
    let length = u16::try_from(out.len() - start - HEAD).expect("bounded by MOST_SENT");
    out[start + 14..start + HEAD].copy_from_slice(&length.to_be_bytes());
    if extras.checksum {
        let sum = crc32c(&[&out[start..]]);
        out[checksum_ends - 4..checksum_ends].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Writes the header of a connection that is our own: a probe, not a client's.
pub fn encode_local(out: &mut Vec<u8>) {
    out.extend(SIGNATURE);
    out.extend([0x20, 0, 0, 0]);
}

fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Adds a value to the header that begins at `start`, if it finds room there.
fn push(out: &mut Vec<u8>, start: usize, kind: u8, value: &[u8]) {
    if out.len() - start + 3 + value.len() <= MOST_SENT {
        out.push(kind);
        out.extend((value.len() as u16).to_be_bytes());
        out.extend(value);
    }
}

/// §2.2.6: flags, zero for a certificate that holds, and values inside of the value.
fn push_tls(out: &mut Vec<u8>, start: usize, tls: &Tls<'_>) {
    let flags = match tls.certificate {
        ClientCertificate::None => 1,
        ClientCertificate::Now => 1 | 2 | 4,
        ClientCertificate::Before => 1 | 4,
    };
    let verified = u32::from(tls.certificate == ClientCertificate::None);
    let at = out.len();
    push(out, start, TLS, &[&[flags], &verified.to_be_bytes()[..]].concat());
    if out.len() == at {
        return;
    }
    let inside =
        [(TLS_VERSION, Some(tls.version)), (TLS_CIPHER, tls.cipher), (TLS_COMMON_NAME, tls.common_name)];
    for (kind, text) in inside {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            push(out, start, kind, text.as_bytes());
        }
    }
    let length = (out.len() - at - 3) as u16;
    out[at + 1..at + 3].copy_from_slice(&length.to_be_bytes());
}
