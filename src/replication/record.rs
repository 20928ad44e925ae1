//! One row: a key in a table, and what its origin wrote there last. Bodies are opaque here.

use std::sync::Arc;

use super::octets::{Malformed, Reader, put_number, put_octets};

/// Octets of the longest key.
pub const MOST_KEY: usize = 255;
/// Octets of the longest body. A row with a full key fits a frame with room to spare.
pub const MOST_BODY: usize = 16 * 1024;
/// What a row costs in memory beside its key and body, about: what quotas count.
pub const OVERHEAD: usize = 160;

/// What a row is about. Numbers that nobody here knows are kept and passed on, and shown to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u16);

/// Where a row is. An origin has at most one row for each key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub table: Table,
    /// 0 to 255 octets.
    pub key: Arc<[u8]>,
}

impl Key {
    /// None if it is longer than a key may be.
    #[must_use]
    pub fn new(table: Table, key: &[u8]) -> Option<Self> {
        (key.len() <= MOST_KEY).then(|| Self { table, key: key.into() })
    }
}

/// What an origin wrote last for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: Key,
    /// Of the origin, when it wrote this.
    pub version: u64,
    /// A tombstone has no body.
    pub value: Option<Value>,
}

/// What is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What the body is, within its table.
    pub kind: u16,
    /// Of the body's schema. A reader knows those up to its own and takes later ones for what it knows of them.
    pub revision: u16,
    /// At most 16 KiB.
    pub body: Arc<[u8]>,
}

impl Value {
    /// None if the body is longer than one may be.
    #[must_use]
    pub fn new(kind: u16, revision: u16, body: &[u8]) -> Option<Self> {
        (body.len() <= MOST_BODY).then(|| Self { kind, revision, body: body.into() })
    }
}

impl Row {
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// What it counts for in quotas.
    #[must_use]
    pub fn weight(&self) -> usize {
        OVERHEAD + self.key.key.len() + self.value.as_ref().map_or(0, |value| value.body.len())
    }

    /// Table, key, version, then 0 for a tombstone, or 1, kind, revision and body.
    pub fn put(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.key.table.0.to_be_bytes());
        put_octets(into, &self.key.key);
        put_number(into, self.version);
        match &self.value {
            None => into.push(0),
            Some(value) => {
                into.push(1);
                into.extend_from_slice(&value.kind.to_be_bytes());
                into.extend_from_slice(&value.revision.to_be_bytes());
                put_octets(into, &value.body);
            }
        }
    }

    /// Reads one from the front.
    ///
    /// # Errors
    /// When it is cut off, or longer than it may be.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = Table(reader.short("table")?);
        let key = Key { table, key: reader.octets(MOST_KEY, "key")?.into() };
        let version = reader.number("version of a row")?;
        let value = if reader.flag("tombstone")? {
            let (kind, revision) = (reader.short("kind")?, reader.short("revision")?);
            Some(Value { kind, revision, body: reader.octets(MOST_BODY, "body")?.into() })
        } else {
            None
        };
        Ok(Self { key, version, value })
    }
}

/// What an origin wants to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: Key,
    /// None: the row is deleted.
    pub value: Option<Value>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn row() -> impl Strategy<Value = Row> {
        let value = (any::<u16>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..64));
        let value = value.prop_map(|(kind, revision, body)| Value { kind, revision, body: body.into() });
        let key = prop::collection::vec(any::<u8>(), 0..8);
        (any::<u16>(), key, any::<u64>(), prop::option::of(value)).prop_map(|(table, key, version, value)| {
            Row { key: Key { table: Table(table), key: key.into() }, version, value }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(row in row(), after: Vec<u8>) {
            let mut octets = Vec::new();
            row.put(&mut octets);
            octets.extend_from_slice(&after);
            let mut reader = Reader::new(&octets);
            prop_assert_eq!(Row::read(&mut reader), Ok(row));
            prop_assert_eq!(reader.rest(), &after[..]);
        }

        #[test]
        fn garbage_never_makes_a_row_that_is_too_large(octets: Vec<u8>) {
            if let Ok(row) = Row::read(&mut Reader::new(&octets)) {
                prop_assert!(row.weight() <= OVERHEAD + octets.len());
            }
        }
    }

    #[test]
    fn a_length_that_is_not_there_is_refused_before_anything_is_kept() {
        // Table 1, an empty key, version 1, a value whose body says 4 GiB.
        let octets = [0, 1, 0, 1, 1, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(Row::read(&mut Reader::new(&octets)), Err(Malformed("body")));
    }
}
