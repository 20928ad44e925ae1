//! What holders and voters say to each other, as octets.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::super::octets::{Malformed, Reader, put_number, put_octets};

/// Permits that one holder has at once.
const MOST_PERMITS: usize = 2_048;
/// Of a refusal.
const MOST_WORDS: usize = 1_024;

/// Names a permit among those of its holder; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PermitId {
    /// Of the holder's process.
    pub incarnation: u64,
    pub number: u64,
}

impl fmt::Display for PermitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation >> 20, self.number)
    }
}

impl PermitId {
    pub(super) fn put(self, into: &mut Vec<u8>) {
        put_number(into, self.incarnation);
        put_number(into, self.number);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { incarnation: reader.number("incarnation")?, number: reader.number("number of a permit")? })
    }
}

/// From a holder to a voter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Word {
    /// May we withdraw this prefix, if so many others must announce it?
    Ask { prefix: IpNetwork, permit: PermitId, min_announcers: u32 },
    /// These are all the permits we have or ask for; others up to that one have ended.
    Holds { up_to: PermitId, permits: BTreeMap<IpNetwork, PermitId> },
}

/// From a voter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reply {
    Granted,
    /// Why not, in words.
    Refused(String),
    Noted,
}

impl Word {
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut into = Vec::new();
        match self {
            Self::Ask { prefix, permit, min_announcers } => {
                into.push(1);
                put_prefix(&mut into, *prefix);
                permit.put(&mut into);
                put_number(&mut into, u64::from(*min_announcers));
            }
            Self::Holds { up_to, permits } => {
                into.push(2);
                up_to.put(&mut into);
                put_number(&mut into, permits.len() as u64);
                for (prefix, permit) in permits {
                    put_prefix(&mut into, *prefix);
                    permit.put(&mut into);
                }
            }
        }
        into
    }

    /// # Errors
    /// When it means nothing, or names too many permits.
    pub fn read(octets: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(octets);
        let word = match reader.octet("kind of word")? {
            1 => Self::Ask {
                prefix: read_prefix(&mut reader)?,
                permit: PermitId::read(&mut reader)?,
                min_announcers: reader.up_to(1 << 16, "announcers")? as u32,
            },
            2 => {
                let up_to = PermitId::read(&mut reader)?;
                let mut permits = BTreeMap::new();
                for _ in 0..reader.up_to(MOST_PERMITS, "number of permits")? {
                    let prefix = read_prefix(&mut reader)?;
                    permits.insert(prefix, PermitId::read(&mut reader)?);
                }
                Self::Holds { up_to, permits }
            }
            _ => return Err(Malformed("kind of word")),
        };
        reader.finish("end of the word")?;
        Ok(word)
    }
}

impl Reply {
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut into = Vec::new();
        match self {
            Self::Granted => into.push(1),
            Self::Refused(why) => {
                into.push(2);
                put_octets(&mut into, &why.as_bytes()[..why.floor_char_boundary(MOST_WORDS)]);
            }
            Self::Noted => into.push(3),
        }
        into
    }

    /// # Errors
    /// When it means nothing.
    pub fn read(octets: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(octets);
        let reply = match reader.octet("kind of reply")? {
            1 => Self::Granted,
            2 => {
                let why = std::str::from_utf8(reader.octets(MOST_WORDS, "refusal")?);
                // Operators read it.
                let why = why.ok().filter(|why| !why.contains(char::is_control));
                Self::Refused(why.ok_or(Malformed("refusal"))?.to_owned())
            }
            3 => Self::Noted,
            _ => return Err(Malformed("kind of reply")),
        };
        reader.finish("end of the reply")?;
        Ok(reply)
    }
}

/// The family, the length of the prefix, its octets.
pub(super) fn put_prefix(into: &mut Vec<u8>, prefix: IpNetwork) {
    let octets = usize::from(prefix.prefix().div_ceil(8));
    into.extend_from_slice(&[if prefix.is_ipv6() { 6 } else { 4 }, prefix.prefix()]);
    match prefix.network() {
        IpAddr::V4(address) => into.extend_from_slice(&address.octets()[..octets]),
        IpAddr::V6(address) => into.extend_from_slice(&address.octets()[..octets]),
    }
}

pub(super) fn read_prefix(reader: &mut Reader<'_>) -> Result<IpNetwork, Malformed> {
    const WHAT: Malformed = Malformed("prefix");
    let family = reader.octet("family of a prefix")?;
    let length = reader.octet("length of a prefix")?;
    let octets = reader.take(usize::from(length.div_ceil(8)), "prefix")?;
    let prefix: IpNetwork = match family {
        4 => {
            let mut address = [0; 4];
            address.get_mut(..octets.len()).ok_or(WHAT)?.copy_from_slice(octets);
            Ipv4Network::new(address.into(), length).map_err(|_| WHAT)?.into()
        }
        6 => {
            let mut address = [0; 16];
            address.get_mut(..octets.len()).ok_or(WHAT)?.copy_from_slice(octets);
            Ipv6Network::new(address.into(), length).map_err(|_| WHAT)?.into()
        }
        _ => return Err(WHAT),
    };
    if prefix.ip() == prefix.network() { Ok(prefix) } else { Err(WHAT) }
}
