//! Who wrote, and how far: origins, their incarnations and versions, and what somebody knows of all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::octets::{Malformed, Reader, put_number, put_octets};

/// The letters of the longest name.
pub const MOST_NAME: usize = 32;
/// Bits of an incarnation that are no count.
const RANDOM: u32 = 20;
/// Origins that are kept at most: more POPs than a fleet of this kind has.
pub const MOST_ORIGINS: usize = 4_096;

/// A POP that writes: its id, 1 to 32 of `a-z 0-9 -`, starting with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// None if it is no name of a POP.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let inside = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
        let fits = name.len() <= MOST_NAME
            && name.starts_with(|letter: char| letter.is_ascii_lowercase())
            && name.bytes().all(inside);
        fits.then(|| Self(name.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id, without a copy.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    pub(super) fn put(&self, into: &mut Vec<u8>) {
        put_octets(into, self.0.as_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let name = reader.octets(MOST_NAME, "origin")?;
        std::str::from_utf8(name).ok().and_then(Self::new).ok_or(Malformed("origin"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment in what one origin wrote. Versions grow with every row; an incarnation is a stretch of them without a
/// break: a restart begins a new one, and so does whoever finds that more is known of it than it knows itself. Its
/// upper 44 bits count; the lower 20 are random, so that two histories that parted do not use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Point {
    pub incarnation: u64,
    pub version: u64,
}

impl Point {
    #[must_use]
    pub fn new(incarnation: u64, version: u64) -> Self {
        Self { incarnation, version }
    }

    /// The incarnation after one, for a run of the process with this random number.
    #[must_use]
    pub fn incarnation_after(last: u64, instance: u64) -> u64 {
        (((last >> RANDOM) + 1) << RANDOM) | (instance & ((1 << RANDOM) - 1))
    }

    pub(super) fn put(self, into: &mut Vec<u8>) {
        put_number(into, self.incarnation);
        put_number(into, self.version);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { incarnation: reader.number("incarnation")?, version: reader.number("version")? })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation >> RANDOM, self.version)
    }
}

/// The state of one origin, as somebody knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    pub point: Point,
    /// Tombstones up to this version are gone.
    pub floor: u64,
    /// Of its whole state: equal points with different digests are a conflict.
    pub digest: [u8; 16],
}

impl Known {
    pub(super) fn put(&self, into: &mut Vec<u8>) {
        self.point.put(into);
        put_number(into, self.floor);
        into.extend_from_slice(&self.digest);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let point = Point::read(reader)?;
        Ok(Self { point, floor: reader.number("floor")?, digest: reader.array("digest")? })
    }
}

/// What somebody knows of everybody.
pub type Vector = BTreeMap<Origin, Known>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_name_of_a_pop() {
        for (name, fits) in [
            ("gru1", true),
            ("a", true),
            ("new-york-2", true),
            ("", false),
            ("1gru", false),
            ("-gru", false),
            ("Gru", false),
            ("gru_1", false),
            ("abcdefghijklmnopqrstuvwxyz-12345", true),
            ("abcdefghijklmnopqrstuvwxyz-123456", false),
        ] {
            assert_eq!(Origin::new(name).is_some(), fits, "{name}");
        }
    }

    #[test]
    fn a_later_incarnation_is_later_whatever_its_version() {
        assert!(Point::new(2, 0) > Point::new(1, 99));
        assert!(Point::new(1, 100) > Point::new(1, 99));
    }
}
