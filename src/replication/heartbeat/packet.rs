//! Heartbeats as octets: a datagram each, of a whole state or of a part of one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::super::octets::{Malformed, Reader, put_number, put_octets};
use crate::catalog::stance::{Failure, Stance, Stances};

/// The first octet of a datagram that is a heartbeat.
pub const KIND: u8 = 2;
/// No datagram is longer: what every path carries beside the headers of QUIC.
const LONGEST: usize = 1_100;
/// An entry is not longer than this.
const ENTRY: usize = 1 + 1 + 16 + 2 + Failure::LONGEST + 4;
/// A state has no more parts.
const MOST_PARTS: usize = 250;
/// Marks a prefix of IPv6.
const V6: u8 = 0x80;
/// A failure is not older; what is older is as if it were.
const OLDEST: Duration = Duration::from_secs(3_600);

/// One heartbeat, or a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Of its sender; grows.
    pub(super) round: u64,
    /// The last round of the receiver that the sender has heard; 0: none.
    pub(super) answers: u64,
    /// The last revision of the receiver that the sender knows.
    pub(super) knows: u64,
    /// Of the stances.
    pub(super) revision: u64,
    pub(super) part: u8,
    pub(super) parts: u8,
    pub(super) of: BTreeMap<IpNetwork, Stance>,
}

/// A state, in as many datagrams as it takes; at least one.
pub(super) fn packets(own: &Stances, round: u64, answers: u64, knows: u64, now: Instant) -> Vec<Vec<u8>> {
    let mut bodies: Vec<(u64, Vec<u8>)> = vec![(0, Vec::new())];
    for (prefix, stance) in &own.of {
        let mut entry = Vec::with_capacity(ENTRY);
        put(&mut entry, *prefix, stance, now);
        match bodies.last_mut() {
            Some((count, body)) if body.len() + entry.len() <= LONGEST - 48 => {
                *count += 1;
                body.extend_from_slice(&entry);
            }
            _ => bodies.push((1, entry)),
        }
    }
    bodies.truncate(MOST_PARTS);
    let parts = bodies.len() as u8;
    let packet = |(part, (count, body)): (u8, &(u64, Vec<u8>))| {
        let mut packet = vec![KIND];
        for number in [round, answers, knows, own.revision] {
            put_number(&mut packet, number);
        }
        packet.extend_from_slice(&[part, parts]);
        put_number(&mut packet, *count);
        packet.extend_from_slice(body);
        packet
    };
    (0..parts).zip(&bodies).map(packet).collect()
}

impl Packet {
    pub(super) fn read(octets: &[u8], now: Instant) -> Result<Self, Malformed> {
        let mut reader = Reader::new(octets);
        if reader.octet("kind of datagram")? != KIND {
            return Err(Malformed("kind of datagram"));
        }
        let (round, answers) = (reader.number("round")?, reader.number("answered round")?);
        let (knows, revision) = (reader.number("known revision")?, reader.number("revision")?);
        let (part, parts) = (reader.octet("part")?, reader.octet("number of parts")?);
        if part >= parts || usize::from(parts) > MOST_PARTS {
            return Err(Malformed("part"));
        }
        let mut of = BTreeMap::new();
        for _ in 0..reader.up_to(LONGEST, "number of prefixes")? {
            let (prefix, stance) = entry(&mut reader, now)?;
            of.insert(prefix, stance);
        }
        reader.finish("end of the heartbeat")?;
        Ok(Self { round, answers, knows, revision, part, parts, of })
    }
}

/// The stance, with the highest bit set for IPv6; the length of the prefix and its octets; a failure's words and age.
fn put(into: &mut Vec<u8>, prefix: IpNetwork, stance: &Stance, now: Instant) {
    let (kind, failure) = match stance {
        Stance::Withdrawn => (0, None),
        Stance::Announced => (1, None),
        Stance::Draining => (2, None),
        Stance::Held(failure) => (3, Some(failure)),
        Stance::Failed(failure) => (4, Some(failure)),
    };
    let octets = usize::from(prefix.prefix().div_ceil(8));
    let family = if prefix.is_ipv6() { V6 } else { 0 };
    into.extend_from_slice(&[family | kind, prefix.prefix()]);
    match prefix.network() {
        IpAddr::V4(address) => into.extend_from_slice(&address.octets()[..octets]),
        IpAddr::V6(address) => into.extend_from_slice(&address.octets()[..octets]),
    }
    if let Some(failure) = failure {
        put_octets(into, failure.what.as_bytes());
        let age = now.saturating_duration_since(failure.at).min(OLDEST);
        put_number(into, age.as_millis() as u64);
    }
}

fn entry(reader: &mut Reader<'_>, now: Instant) -> Result<(IpNetwork, Stance), Malformed> {
    const WHAT: Malformed = Malformed("prefix");
    let kind = reader.octet("stance")?;
    let length = reader.octet("length of a prefix")?;
    let octets = reader.take(usize::from(length.div_ceil(8)), "prefix")?;
    let prefix: IpNetwork = if kind & V6 == 0 {
        let mut address = [0; 4];
        address.get_mut(..octets.len()).ok_or(WHAT)?.copy_from_slice(octets);
        Ipv4Network::new(address.into(), length).map_err(|_| WHAT)?.into()
    } else {
        let mut address = [0; 16];
        address.get_mut(..octets.len()).ok_or(WHAT)?.copy_from_slice(octets);
        Ipv6Network::new(address.into(), length).map_err(|_| WHAT)?.into()
    };
    if prefix.ip() != prefix.network() {
        return Err(WHAT);
    }
    let stance = match kind & !V6 {
        0 => Stance::Withdrawn,
        1 => Stance::Announced,
        2 => Stance::Draining,
        3 => Stance::Held(failure(reader, now)?),
        4 => Stance::Failed(failure(reader, now)?),
        _ => return Err(Malformed("stance")),
    };
    Ok((prefix, stance))
}

fn failure(reader: &mut Reader<'_>, now: Instant) -> Result<Failure, Malformed> {
    let what = reader.octets(Failure::LONGEST, "failure")?;
    let what = std::str::from_utf8(what).map_err(|_| Malformed("failure"))?;
    // Operators read it.
    if what.contains(char::is_control) {
        return Err(Malformed("failure"));
    }
    let age = reader.up_to(OLDEST.as_millis() as usize, "age of a failure")?;
    let at = now.checked_sub(Duration::from_millis(age as u64)).unwrap_or(now);
    Ok(Failure::new(what, at))
}
