//! The digest of a set of rows that can be added to and taken from: what is signed in place of every row.
//!
//! A lattice hash (LtHash, Bellare and Micciancio 1997; Lewi and others 2019): each row is stretched to 1,024 numbers of
//! 16 bits, and those of all rows are added up. Sets that differ have different sums; to find rows that add up to a
//! given sum is a lattice problem believed to take 2^200 steps. So the order of rows does not matter, what was replaced
//! is subtracted, and whoever passes rows on can neither invent nor hide one.

use std::fmt;

use super::record::Row;
use super::version::Origin;

const LANES: usize = 1_024;

/// The sum over a set of rows.
#[derive(Clone, PartialEq, Eq)]
pub struct Sum(Box<[u16; LANES]>);

/// What is left of a sum that is compared and signed: 32 octets.
pub type Digest = [u8; 32];

impl Default for Sum {
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = self.digest();
        write!(f, "Sum({:02x}{:02x}{:02x}{:02x}…)", digest[0], digest[1], digest[2], digest[3])
    }
}

impl Sum {
    /// With one row more. The same row may not be in it twice.
    pub fn add(&mut self, origin: &Origin, row: &Row) {
        stretch(origin, row, |lane, number| self.0[lane] = self.0[lane].wrapping_add(number));
    }

    /// Without a row that is in it.
    pub fn subtract(&mut self, origin: &Origin, row: &Row) {
        stretch(origin, row, |lane, number| self.0[lane] = self.0[lane].wrapping_sub(number));
    }

    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("edgeproxy replication 1 sum");
        let mut octets = [0; 2 * LANES];
        for (pair, lane) in octets.chunks_exact_mut(2).zip(self.0.iter()) {
            pair.copy_from_slice(&lane.to_le_bytes());
        }
        *hasher.update(&octets).finalize().as_bytes()
    }
}

/// A row as numbers: nobody can choose what becomes of it. Its origin is part of it, so that no row counts elsewhere.
fn stretch(origin: &Origin, row: &Row, mut each: impl FnMut(usize, u16)) {
    let mut octets = Vec::with_capacity(row.weight());
    origin.put(&mut octets);
    row.put(&mut octets);
    let mut hasher = blake3::Hasher::new_derive_key("edgeproxy replication 1 row");
    let mut long = [0; 2 * LANES];
    hasher.update(&octets).finalize_xof().fill(&mut long);
    for (lane, pair) in long.chunks_exact(2).enumerate() {
        each(lane, u16::from_le_bytes([pair[0], pair[1]]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::record::tests::row;
    use proptest::prelude::*;

    fn sum(origin: &Origin, rows: &[Row]) -> Sum {
        let mut sum = Sum::default();
        rows.iter().for_each(|row| sum.add(origin, row));
        sum
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_what_is_subtracted_was_never_there(
            rows in prop::collection::vec(row(), 0..6),
            more in row(),
        ) {
            let origin = Origin::new("gru1").unwrap();
            let forward = sum(&origin, &rows);
            let reversed: Vec<Row> = rows.into_iter().rev().collect();
            prop_assert_eq!(&sum(&origin, &reversed), &forward);
            let mut changed = forward.clone();
            changed.add(&origin, &more);
            prop_assert_ne!(changed.digest(), forward.digest());
            changed.subtract(&origin, &more);
            prop_assert_eq!(changed, forward);
        }

        #[test]
        fn a_row_counts_for_its_origin_only(row in row()) {
            let [one, other] = ["gru1", "fra1"].map(|name| Origin::new(name).unwrap());
            prop_assert_ne!(sum(&one, std::slice::from_ref(&row)).digest(), sum(&other, &[row]).digest());
        }
    }
}
