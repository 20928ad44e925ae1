//! The database as lines of JSON: for whoever wants to look at it, keep it, or move it.
//!
//! The first line says what it is. Then, for each origin, a line for its head, followed by one for each row. The last
//! line says how many there were. Octets are in hexadecimal. Slots are not part of it: what a POP has promised, and in
//! which incarnation it writes, is true for one moment of one machine only.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::schema::{self, Fault};
use super::{StoreError, load, place};
use crate::replication::head::Signed;
use crate::replication::record::Row;

/// What the first line says.
pub(super) const TITLE: &str = "fleet dump";
pub(super) const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub edgeproxy: String,
    pub format: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfHead {
    /// Origin, incarnation and version are there to be read; what counts is in the head.
    pub origin: String,
    pub incarnation: u64,
    pub version: u64,
    pub rows: u64,
    pub head: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfRow {
    pub table: u16,
    pub key: String,
    pub version: u64,
    /// These three together, or none of them: a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    pub end: bool,
    pub origins: u64,
    pub rows: u64,
}

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Dumped {
    pub origins: u64,
    pub rows: u64,
    /// Origins whose rows do not add up. They are left out.
    pub damaged: Vec<String>,
}

/// Writes the database of a folder as lines of JSON, also while a process has it open. Each origin is whole, as of a
/// moment of its own.
///
/// # Errors
/// When there is no database, or it cannot be read, or `into` refuses.
pub fn dump(folder: &Path, into: &mut dyn Write) -> Result<Dumped, StoreError> {
    let path = place::database(folder);
    if !path.exists() {
        return Err(StoreError::Missing(path));
    }
    let failed = |fault: Fault| match fault {
        Fault::Weather(error) => StoreError::Database(path.clone(), error),
        Fault::Damage(why) => StoreError::Damaged(path.clone(), why),
        Fault::Later => StoreError::Later(path.clone()),
    };
    let connection = schema::look(&path).map_err(failed)?;
    let mut dumped = Dumped::default();
    line(into, &First { edgeproxy: TITLE.to_owned(), format: FORMAT })?;
    let names = load::heads(&connection).map_err(|error| failed(error.into()))?;
    for (name, ..) in names {
        // The log of the process that writes grows while something is read, but not while `into` is slow.
        let read = || {
            let moment = connection.unchecked_transaction()?;
            let Some((book, sealed)) = load::head(&moment, &name)? else { return Ok(None) };
            load::origin(&moment, &name, book, &sealed)
        };
        let Some((head, rows)) = read().map_err(|error: rusqlite::Error| failed(error.into()))? else {
            dumped.damaged.push(name);
            continue;
        };
        line(into, &OfHead::new(&head))?;
        for row in &rows {
            line(into, &OfRow::new(row))?;
        }
        dumped.origins += 1;
        dumped.rows += rows.len() as u64;
    }
    line(into, &Last { end: true, origins: dumped.origins, rows: dumped.rows })?;
    into.flush().map_err(StoreError::Stream)?;
    Ok(dumped)
}

impl OfHead {
    fn new(signed: &Signed) -> Self {
        let (head, mut octets) = (&signed.head, Vec::new());
        signed.put(&mut octets);
        Self {
            origin: head.origin.to_string(),
            incarnation: head.point.incarnation,
            version: head.point.version,
            rows: head.rows,
            head: hex(&octets),
        }
    }
}

impl OfRow {
    fn new(row: &Row) -> Self {
        let value = row.value.as_ref();
        Self {
            table: row.key.table.0,
            key: hex(&row.key.key),
            version: row.version,
            kind: value.map(|value| value.kind),
            revision: value.map(|value| value.revision),
            body: value.map(|value| hex(&value.body)),
        }
    }
}

fn line(into: &mut dyn Write, what: &impl Serialize) -> Result<(), StoreError> {
    let mut text = serde_json::to_vec(what).map_err(|error| StoreError::Stream(error.into()))?;
    text.push(b'\n');
    into.write_all(&text).map_err(StoreError::Stream)
}

fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// None if it is not what [`hex`] writes.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let octets = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { octets } else { None }
}
