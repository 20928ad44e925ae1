//! Reads the database at the start: what adds up is taken, what does not is dropped, and what cannot be read is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row as Line};

use super::schema;
pub(super) use super::schema::Fault;
use super::write::Books;
use super::{MOST_SLOT, MOST_SLOTS};
use crate::replication::digest::Sum;
use crate::replication::head::Signed;
use crate::replication::octets::Reader;
use crate::replication::record::{Key, Row, Table, Value};
use crate::replication::version::MOST_ORIGINS;

/// Of the check that is kept with heads and slots: enough against a disk, which is no forger.
const CHECK: usize = 16;

/// What is in a database.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub origins: Vec<(Signed, Vec<Row>)>,
    pub slots: BTreeMap<String, Vec<u8>>,
    /// Origins that are dropped.
    pub damaged: Vec<String>,
    pub books: Books,
}

/// Opens a database and reads all of it.
pub(super) fn load(path: &Path) -> Result<(Connection, Contents), Fault> {
    read(path).map_err(|fault| match fault {
        // A bit of its header says that; the file itself does not.
        Fault::Weather(error)
            if error.sqlite_error_code() == Some(ErrorCode::ReadOnly) && is_writable(path) =>
        {
            Fault::Damage(error.to_string())
        }
        fault => fault,
    })
}

fn is_writable(path: &Path) -> bool {
    File::options().read(true).write(true).open(path).is_ok()
}

fn read(path: &Path) -> Result<(Connection, Contents), Fault> {
    let connection = schema::connect(path)?;
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |line| line.get(0))?;
    if sound != "ok" {
        return Err(Fault::Damage(sound));
    }
    let slots = slots(&connection)?;
    if let Some((name, _)) = slots.iter().find(|(_, value)| value.is_none()) {
        return Err(Fault::Damage(format!("what it keeps as `{name}` has changed by itself")));
    }
    let slots = slots.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let mut contents = Contents { slots, ..Contents::default() };
    for (name, book, octets) in heads(&connection)? {
        match origin(&connection, &name, book, &octets)? {
            Some((head, rows)) => {
                contents.books.known(head.head.origin.clone(), book);
                contents.origins.push((head, rows));
            }
            None => {
                connection.execute("DELETE FROM heads WHERE origin = ?1", [&name])?;
                contents.damaged.push(name);
            }
        }
    }
    let named: BTreeSet<i64> = contents.books.numbers().collect();
    for book in written(&connection)? {
        if !named.contains(&book) {
            contents.books.forsake(book);
        }
    }
    Ok((connection, contents))
}

/// The slots of a database that cannot be used otherwise, as far as they can be read.
pub(super) fn salvage(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let found = schema::look(path).ok().and_then(|connection| slots(&connection).ok()).unwrap_or_default();
    found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Octets with a check behind them, of the name under which they are kept and of themselves.
pub(super) fn seal(name: &str, mut octets: Vec<u8>) -> Vec<u8> {
    let check = check(name, &octets);
    octets.extend_from_slice(&check);
    octets
}

/// The octets, if they are those that were sealed under this name.
fn unseal<'a>(name: &str, sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (octets, found) = sealed.split_at_checked(sealed.len().checked_sub(CHECK)?)?;
    (check(name, octets) == *found).then_some(octets)
}

fn check(name: &str, octets: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new_derive_key("edgeproxy replication 1 kept");
    hasher.update(name.as_bytes()).update(&[0]).update(octets);
    let mut check = [0; CHECK];
    hasher.finalize_xof().fill(&mut check);
    check
}

/// Names with values; None where a value is not what was written.
fn slots(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<Vec<u8>>)>> {
    let mut statement = connection.prepare("SELECT name, value FROM slots LIMIT ?1")?;
    let lines = statement.query_map([MOST_SLOTS as i64], |line| {
        let (name, sealed): (String, _) = (line.get(0)?, line.get_ref(1)?.as_blob()?);
        let value = (sealed.len() <= MOST_SLOT + CHECK).then(|| unseal(&name, sealed)).flatten();
        let value = value.map(<[u8]>::to_vec);
        Ok((name, value))
    })?;
    lines.collect()
}

/// All heads: name, book and sealed octets.
pub(super) fn heads(connection: &Connection) -> rusqlite::Result<Vec<(String, i64, Vec<u8>)>> {
    let mut statement =
        connection.prepare("SELECT origin, book, head FROM heads ORDER BY origin LIMIT ?1")?;
    let lines =
        statement.query_map([MOST_ORIGINS as i64], |line| Ok((line.get(0)?, line.get(1)?, line.get(2)?)))?;
    lines.collect()
}

/// The head of one origin as it is now, with its book.
pub(super) fn head(connection: &Connection, name: &str) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
    let mut statement = connection.prepare("SELECT book, head FROM heads WHERE origin = ?1")?;
    statement.query_row([name], |line| Ok((line.get(0)?, line.get(1)?))).optional()
}

/// An origin whose rows add up to its head; None if they do not.
pub(super) fn origin(
    connection: &Connection,
    name: &str,
    book: i64,
    sealed: &[u8],
) -> rusqlite::Result<Option<(Signed, Vec<Row>)>> {
    let Some(head) = unseal(name, sealed).and_then(|octets| Signed::read(&mut Reader::new(octets)).ok())
    else {
        return Ok(None);
    };
    let origin = &head.head.origin;
    if origin.as_str() != name {
        return Ok(None);
    }
    // One more than there should be is enough to see that they are too many.
    let most = i64::try_from(head.head.rows).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = connection.prepare(
        "SELECT tab, key, version, kind, revision, body FROM rows WHERE book = ?1 ORDER BY tab, key LIMIT ?2",
    )?;
    let mut lines = statement.query([book, most])?;
    let (mut rows, mut sum, mut weight) = (Vec::new(), Sum::default(), 0);
    while let Some(line) = lines.next()? {
        let Some(row) = row(line)? else { return Ok(None) };
        sum.add(origin, &row);
        weight += row.weight() as u64;
        rows.push(row);
    }
    let adds_up =
        rows.len() as u64 == head.head.rows && weight == head.head.weight && sum.digest() == head.head.digest;
    // As they were written: what is offered to somebody has this order.
    rows.sort_unstable_by_key(|row| row.version);
    Ok(adds_up.then_some((head, rows)))
}

/// None if it is longer than a row may be, or not one.
fn row(line: &Line<'_>) -> rusqlite::Result<Option<Row>> {
    let short = |column| line.get::<_, i64>(column).map(|number| u16::try_from(number).ok());
    let (Some(table), Ok(key)) = (short(0)?, line.get_ref(1)?.as_blob()) else { return Ok(None) };
    let Some(key) = Key::new(Table(table), key) else { return Ok(None) };
    let version = line.get::<_, i64>(2)?.cast_unsigned();
    let value = match line.get_ref(5)?.as_blob_or_null() {
        Ok(None) => None,
        Ok(Some(body)) => {
            let (Some(kind), Some(revision)) = (short(3)?, short(4)?) else { return Ok(None) };
            let Some(value) = Value::new(kind, revision, body) else { return Ok(None) };
            Some(value)
        }
        Err(_) => return Ok(None),
    };
    Ok(Some(Row { key, version, value }))
}

/// The books that have rows. Each is one step in the index, however many rows it has.
fn written(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare("SELECT min(book) FROM rows WHERE book > ?1")?;
    let (mut books, mut last) = (Vec::new(), i64::MIN);
    while let Some(book) = statement.query_row([last], |line| line.get::<_, Option<i64>>(0))? {
        books.push(book);
        last = book;
    }
    Ok(books)
}
