//! Reads a ClientHello before anybody has answered it: the name, the protocols, what it can do (RFC 8446 §4.1.2).
//!
//! It only chooses who answers; whoever that is reads all of it again. Pure: octets in as they came, in any number of
//! records and reads.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::config::listen::ServerName;

/// The longest ClientHello with the headers of its records. With a post-quantum key share it has about 1,800 octets.
pub const MOST_HELLO: usize = 16 << 10;
/// The protocol of TLS-ALPN-01 (RFC 8737 §3).
const ACME: &[u8] = b"acme-tls/1";

const HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_VERSIONS: u16 = 43;
/// TLS 1.3, then ECDHE with ECDSA and with RSA (RFC 8446 §B.4, RFC 7905).
const CHACHA: [u16; 3] = [0x1303, 0xcca9, 0xcca8];
const AES: [u16; 6] = [0x1301, 0x1302, 0xc02b, 0xc02c, 0xc02f, 0xc030];

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// In lower case, never a wildcard. None: it named nobody, or an address, which is no name (RFC 6066 §3).
    pub server_name: Option<String>,
    /// As they came: each behind its length.
    pub(super) alpn: Box<[u8]>,
    /// In the client's order, with what it made up (RFC 8701). Never empty.
    pub versions: Vec<u16>,
    /// It puts ChaCha20-Poly1305 before AES: it has no hardware for AES.
    pub prefers_chacha: bool,
}

/// Why octets are no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    #[error("the client does not speak TLS")]
    NotTls,
    #[error("the ClientHello is longer than {MOST_HELLO} octets")]
    TooLong,
    #[error("the ClientHello is malformed")]
    Malformed,
    #[error("the server name is none: empty, too long, twice, or of letters that no name has")]
    Name,
}

impl HelloError {
    /// The alert to send (RFC 8446 §6.2), for whoever would understand one.
    #[must_use]
    pub fn alert(self) -> Option<[u8; 7]> {
        match self {
            Self::NotTls => None,
            Self::TooLong | Self::Malformed => Some(alert(50)),
            Self::Name => Some(alert(47)),
        }
    }
}

/// A fatal alert in a record of its own, before there are keys (RFC 8446 §6).
#[must_use]
pub fn alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

impl Hello {
    /// Reads the front of what a client has said. `Ok(None)`: it has to say more. What follows is not looked at.
    ///
    /// # Errors
    /// [`HelloError`]: more octets would not change it.
    pub fn read(octets: &[u8]) -> Result<Option<Self>, HelloError> {
        match message(octets)? {
            Some(message) => parse(&message).map(Some),
            None if octets.len() >= MOST_HELLO => Err(HelloError::TooLong),
            None => Ok(None),
        }
    }

    /// The protocols that the client speaks, by preference (RFC 7301).
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Cursor(&self.alpn);
        std::iter::from_fn(move || rest.short())
    }

    /// Whether this is a CA that looks for the answer of TLS-ALPN-01: that protocol and no other (RFC 8737 §3).
    #[must_use]
    pub fn is_acme(&self) -> bool {
        self.alpn().eq([ACME])
    }
}

/// The ClientHello without its header, put together from its records (RFC 8446 §5.1).
fn message(octets: &[u8]) -> Result<Option<Cow<'_, [u8]>>, HelloError> {
    let mut rest = octets;
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    loop {
        if let [first, ..] = rest
            && *first != HANDSHAKE
        {
            return Err(HelloError::NotTls);
        }
        if let [_, major, ..] = rest
            && *major != 3
        {
            return Err(HelloError::NotTls);
        }
        let Some((&[_, _, _, high, low], behind)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // An empty record of a handshake is forbidden: one could send them for ever.
        if length == 0 {
            return Err(HelloError::Malformed);
        }
        if length > MOST_HELLO {
            return Err(HelloError::TooLong);
        }
        let part = &behind[..length.min(behind.len())];
        if message.is_empty() {
            message = Cow::Borrowed(part);
        } else {
            message.to_mut().extend_from_slice(part);
        }
        if let [kind, ..] = *message
            && kind != CLIENT_HELLO
        {
            return Err(HelloError::NotTls);
        }
        if let [_, high, middle, low, ..] = *message {
            let whole = 4 + u32::from_be_bytes([0, high, middle, low]) as usize;
            if whole > MOST_HELLO - HEADER {
                return Err(HelloError::TooLong);
            }
            if message.len() >= whole {
                return Ok(Some(match message {
                    Cow::Borrowed(message) => Cow::Borrowed(&message[4..whole]),
                    Cow::Owned(message) => Cow::Owned(message[4..whole].to_vec()),
                }));
            }
        }
        if behind.len() < length {
            return Ok(None);
        }
        rest = &behind[length..];
    }
}

fn parse(message: &[u8]) -> Result<Hello, HelloError> {
    let mut fields = Fields { name: None, alpn: None, versions: None };
    let (legacy, suites) = read(message, &mut fields).ok_or(HelloError::Malformed)?;
    let server_name = match fields.name {
        Some(list) => named(list)?,
        None => None,
    };
    let versions = match fields.versions {
        Some(list) => list.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two)).collect(),
        None => vec![legacy],
    };
    let first = suites.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two));
    let first = first.into_iter().find(|suite| AES.contains(suite) || CHACHA.contains(suite));
    Ok(Hello {
        server_name,
        alpn: fields.alpn.unwrap_or_default().into(),
        versions,
        prefers_chacha: first.is_some_and(|suite| CHACHA.contains(&suite)),
    })
}

/// The extensions that matter here.
struct Fields<'m> {
    name: Option<&'m [u8]>,
    alpn: Option<&'m [u8]>,
    versions: Option<&'m [u8]>,
}

/// The legacy version and the cipher suites. None: malformed.
fn read<'m>(message: &'m [u8], fields: &mut Fields<'m>) -> Option<(u16, &'m [u8])> {
    let mut message = Cursor(message);
    let legacy = message.number()?;
    message.take(32)?;
    message.short().filter(|session| session.len() <= 32)?;
    let suites = message.long().filter(|suites| !suites.is_empty() && suites.len().is_multiple_of(2))?;
    message.short().filter(|compressions| !compressions.is_empty())?;
    // Before TLS 1.3 there may be no extensions at all (RFC 5246 §7.4.1.2).
    if !message.0.is_empty() {
        let mut extensions = Cursor(message.long()?);
        while !extensions.0.is_empty() {
            let kind = extensions.number()?;
            let mut content = Cursor(extensions.long()?);
            // RFC 8446 §4.2: none may be there twice.
            let (field, list) = match kind {
                EXTENSION_NAME => (&mut fields.name, content.long()?),
                EXTENSION_ALPN => (&mut fields.alpn, content.long().filter(|list| is_alpn(list))?),
                EXTENSION_VERSIONS => {
                    let even = |list: &&[u8]| !list.is_empty() && list.len().is_multiple_of(2);
                    (&mut fields.versions, content.short().filter(even)?)
                }
                _ => continue,
            };
            if !content.0.is_empty() || field.replace(list).is_some() {
                return None;
            }
        }
    }
    message.0.is_empty().then_some((legacy, suites))
}

/// RFC 7301 §3.1: at least one, and none of them empty.
fn is_alpn(list: &[u8]) -> bool {
    let mut list = Cursor(list);
    loop {
        if list.short().is_none_or(<[u8]>::is_empty) {
            return false;
        }
        if list.0.is_empty() {
            return true;
        }
    }
}

/// The one name of a list (RFC 6066 §3).
fn named(list: &[u8]) -> Result<Option<String>, HelloError> {
    let mut list = Cursor(list);
    let mut found = None;
    while let Some(kind) = list.octet() {
        let name = list.long().ok_or(HelloError::Malformed)?;
        // Other kinds have never come to be.
        if kind == 0 && found.replace(name).is_some() {
            return Err(HelloError::Name);
        }
    }
    let text = std::str::from_utf8(found.ok_or(HelloError::Name)?).map_err(|_| HelloError::Name)?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    // The root's dot has no place here, and some send it.
    let text = text.strip_suffix('.').unwrap_or(text);
    match ServerName::read(text) {
        Some(ServerName(name)) if !text.starts_with('*') => Ok(Some(name)),
        _ => Err(HelloError::Name),
    }
}

/// What has not been read yet.
struct Cursor<'m>(&'m [u8]);

impl<'m> Cursor<'m> {
    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|taken| taken[0])
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|taken| u16::from_be_bytes([taken[0], taken[1]]))
    }

    /// Behind a length of one octet.
    fn short(&mut self) -> Option<&'m [u8]> {
        let length = self.octet()?;
        self.take(length.into())
    }

    /// Behind a length of two octets.
    fn long(&mut self) -> Option<&'m [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests;
