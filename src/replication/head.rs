//! The head of an origin: how far it has written and what that adds up to, under its signature.
//!
//! Rows are bare; a set of them is believed when it adds up to a head. So one signature covers a row as well as a
//! hundred thousand, and a relay needs to keep no more of what passes through it than the last head.

use std::sync::Arc;

use super::digest::Digest;
use super::octets::{Malformed, Reader, put_number, put_octets};
use super::version::{Known, Origin, Point};

/// Ends of earlier incarnations that a head tells of.
pub const MOST_LINEAGE: usize = 32;
/// Octets of the longest certificate.
pub const MOST_CERTIFICATE: usize = 2_048;
/// Of an Ed25519 signature (RFC 8032 §5.1.6).
pub const SIGNATURE: usize = 64;
/// What every signed text begins with: a signature for anything else means nothing here.
const CONTEXT: &[u8] = b"edgeproxy replication 1 head\0";

/// Where an origin stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub origin: Origin,
    pub point: Point,
    /// Tombstones up to this version are gone. Who knows less than this needs all rows.
    pub floor: u64,
    /// The incarnation that this run of the process began with: of two that run at once, the younger has the higher.
    pub born: u64,
    /// Of this run of the process; random.
    pub instance: u64,
    /// Where earlier incarnations ended that this one continues, oldest first, at most 32.
    pub lineage: Vec<Point>,
    /// Rows, tombstones included.
    pub rows: u64,
    /// Their weight (`Row::weight`).
    pub weight: u64,
    /// Of all of them.
    pub digest: Digest,
}

impl Head {
    /// What is told of it in vectors.
    #[must_use]
    pub fn known(&self) -> Known {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.digest[..16]);
        Known { point: self.point, floor: self.floor, digest }
    }

    /// Whether a state at `from` only lacks the rows after it: the same incarnation, or an earlier one that ended
    /// there or later. It may be wrong about one that rolled back in between; the digest tells.
    #[must_use]
    pub fn continues(&self, from: Point) -> bool {
        if from.version < self.floor || from > self.point {
            return false;
        }
        from.incarnation == self.point.incarnation
            || self
                .lineage
                .iter()
                .any(|end| end.incarnation == from.incarnation && from.version <= end.version)
    }

    /// Whether a state is one of its own history, as far as it remembers that.
    #[must_use]
    pub fn holds(&self, state: Point) -> bool {
        let mut ends = self.lineage.iter().chain([&self.point]);
        ends.any(|end| end.incarnation == state.incarnation && end.version >= state.version)
    }

    /// Whether there is nothing to be told of a state: it is one of its own history, or older than what it remembers.
    #[must_use]
    pub fn is_past(&self, state: Point) -> bool {
        let oldest = self.lineage.first().filter(|_| self.lineage.len() == MOST_LINEAGE);
        self.holds(state) || oldest.is_some_and(|oldest| state.incarnation < oldest.incarnation)
    }

    /// The last version that two histories have in common; 0 if they share no incarnation that they remember.
    #[must_use]
    pub fn parted(&self, other: &Self) -> u64 {
        let ends = |head: &Self| -> Vec<Point> { head.lineage.iter().copied().chain([head.point]).collect() };
        let others = ends(other);
        let shared = ends(self).into_iter().filter_map(|end| {
            let same = others.iter().find(|other| other.incarnation == end.incarnation)?;
            Some(end.min(*same))
        });
        shared.max().map_or(0, |end| end.version)
    }

    /// What its signature covers, for one fleet.
    #[must_use]
    pub fn signed_text(&self, fleet: &str) -> Vec<u8> {
        let mut text = CONTEXT.to_vec();
        put_octets(&mut text, fleet.as_bytes());
        self.put(&mut text);
        text
    }

    fn put(&self, into: &mut Vec<u8>) {
        self.origin.put(into);
        self.point.put(into);
        for number in [self.floor, self.born, self.instance, self.rows, self.weight] {
            put_number(into, number);
        }
        put_number(into, self.lineage.len() as u64);
        self.lineage.iter().for_each(|end| end.put(into));
        into.extend_from_slice(&self.digest);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (origin, point) = (Origin::read(reader)?, Point::read(reader)?);
        let [floor, born, instance, rows, weight] = [
            reader.number("floor")?,
            reader.number("born")?,
            reader.number("instance")?,
            reader.number("rows")?,
            reader.number("weight")?,
        ];
        let ends = reader.up_to(MOST_LINEAGE, "lineage")?;
        let lineage = (0..ends).map(|_| Point::read(reader)).collect::<Result<_, _>>()?;
        let digest = reader.array("digest")?;
        Ok(Self { origin, point, floor, born, instance, lineage, rows, weight, digest })
    }
}

/// A head with what proves that its origin said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub head: Head,
    /// The origin's, in DER: whoever has the fleet's authorities needs nothing else.
    pub certificate: Arc<[u8]>,
    pub signature: [u8; SIGNATURE],
}

impl Signed {
    /// What goes over the wire and into the database.
    pub fn put(&self, into: &mut Vec<u8>) {
        self.head.put(into);
        put_octets(into, &self.certificate);
        into.extend_from_slice(&self.signature);
    }

    /// Reads one from the front. It is not believed yet.
    ///
    /// # Errors
    /// When it is cut off, or a part is longer than it may be.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let head = Head::read(reader)?;
        let certificate = reader.octets(MOST_CERTIFICATE, "certificate")?.into();
        Ok(Self { head, certificate, signature: reader.array("signature")? })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn head(incarnation: u64, version: u64) -> Head {
        Head {
            origin: Origin::new("gru1").unwrap(),
            point: Point::new(incarnation, version),
            floor: 0,
            born: incarnation,
            instance: 7,
            lineage: Vec::new(),
            rows: 0,
            weight: 0,
            digest: [0; 32],
        }
    }

    #[test]
    fn it_continues_what_its_lineage_says() {
        let lineage = vec![Point::new(2, 40), Point::new(4, 90)];
        let head = Head { floor: 10, lineage, ..head(5, 120) };
        for (incarnation, version, continues) in [
            (5, 120, true),
            (5, 91, true),
            (5, 121, false),
            (6, 1, false),
            (4, 90, true),
            // It wrote more in that incarnation than it remembers.
            (4, 91, false),
            (2, 10, true),
            (2, 9, false),
            // Nobody knows how this one ended.
            (3, 50, false),
        ] {
            assert_eq!(
                head.continues(Point::new(incarnation, version)),
                continues,
                "{incarnation}.{version}"
            );
        }
    }

    #[test]
    fn histories_part_where_the_shorter_of_the_last_common_one_ends() {
        let ours = Head { lineage: vec![Point::new(2, 40), Point::new(4, 90)], ..head(6, 120) };
        for (lineage, point, parted) in [
            (vec![(2, 40), (4, 100)], (5, 130), 90),
            (vec![(2, 40), (4, 60)], (5, 130), 60),
            (vec![(2, 50)], (3, 70), 40),
            (vec![], (4, 95), 90),
            (vec![], (9, 10), 0),
        ] {
            let lineage = lineage.into_iter().map(|(incarnation, version)| Point { incarnation, version });
            let theirs = Head { lineage: lineage.collect(), ..head(point.0, point.1) };
            assert_eq!((ours.parted(&theirs), theirs.parted(&ours)), (parted, parted), "{theirs:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_not() {
        let lineage = vec![Point::new(2, 40)];
        let head = Head { lineage, rows: 3, weight: 900, digest: [9; 32], ..head(5, 120) };
        let signed = Signed { head, certificate: vec![1, 2, 3].into(), signature: [5; SIGNATURE] };
        let mut octets = Vec::new();
        signed.put(&mut octets);
        assert_eq!(Signed::read(&mut Reader::new(&octets)), Ok(signed));
        for length in 0..octets.len() {
            assert!(Signed::read(&mut Reader::new(&octets[..length])).is_err(), "{length}");
        }
    }
}
