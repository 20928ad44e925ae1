//! Takes a dump back into a database that no process has open, all of it or nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dump::{FORMAT, First, Last, OfHead, OfRow, TITLE, unhex};
use super::write::{Database, Page, Sure};
use super::{Store, StoreError, open};
use crate::replication::digest::Sum;
use crate::replication::head::Signed;
use crate::replication::octets::Reader;
use crate::replication::record::{Key, MOST_BODY, MOST_KEY, Row, Table, Value};
use crate::replication::version::{Origin, Point};

/// Octets of the longest line: the longest row in hexadecimal, and its names and numbers.
const MOST_LINE: usize = 2 * (MOST_BODY + MOST_KEY) + 512;

/// What was taken of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Restored {
    pub origins: u64,
    pub rows: u64,
    /// Origins that were as new or newer here. They are left as they are.
    pub newer_here: Vec<String>,
}

/// Takes a dump into the database of a folder, which is made where it is missing. Of each origin the newer state stays.
/// `believe` says why a head is not believed; then nothing is taken.
///
/// What a POP keeps beside the rows is never touched: above all the incarnation in which it writes, so that it does
/// not go on in one that it has ended.
///
/// # Errors
/// When a process has the database open, the dump is not whole, its rows do not add up, or the disk refuses. Then
/// nothing has changed.
pub fn restore(
    folder: &Path,
    from: &mut dyn BufRead,
    believe: &mut dyn FnMut(&Signed) -> Result<(), String>,
) -> Result<Restored, StoreError> {
    let (Store { place, connection, books, .. }, loaded) = open(folder)?;
    let here = loaded.origins.iter().map(|(head, _)| (head.head.origin.clone(), head.head.point)).collect();
    drop(loaded);
    let mut taking = Taking { lines: Lines { from, number: 0 }, here, restored: Restored::default() };
    let mut database = Database::new(&connection, books);
    let taken = database.transaction(Sure::Disk, |page| taking.all(page, believe));
    match taken {
        Ok(()) => Ok(taking.restored),
        Err(Refused::Dump(error)) => Err(error),
        Err(Refused::Database(error)) => Err(StoreError::Database(place.database(), error)),
    }
}

/// What ends the transaction.
enum Refused {
    Dump(StoreError),
    Database(rusqlite::Error),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Dump(error)
    }
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

struct Taking<'a> {
    lines: Lines<'a>,
    here: BTreeMap<Origin, Point>,
    restored: Restored,
}

impl Taking<'_> {
    fn all(
        &mut self,
        page: &mut Page<'_>,
        believe: &mut dyn FnMut(&Signed) -> Result<(), String>,
    ) -> Result<(), Refused> {
        let first: First = self.lines.next()?;
        if first.edgeproxy != TITLE || first.format != FORMAT {
            return Err(self.lines.wrong("this is no dump of a fleet that this edgeproxy reads").into());
        }
        let (mut origins, mut rows) = (0, 0);
        loop {
            let text = self.lines.text()?;
            if let Ok(last) = serde_json::from_slice::<Last>(&text) {
                if !last.end || (last.origins, last.rows) != (origins, rows) {
                    return Err(self.lines.wrong("there were other rows before it: it was changed").into());
                }
                return Ok(());
            }
            let head = self.head(&text)?;
            believe(&head).map_err(|why| self.lines.wrong(&why))?;
            rows += self.origin(page, &head)?;
            origins += 1;
        }
    }

    fn head(&self, text: &[u8]) -> Result<Signed, StoreError> {
        let line: OfHead = serde_json::from_slice(text).map_err(|error| self.lines.wrong(&error))?;
        let octets = unhex(&line.head).ok_or_else(|| self.lines.wrong("the head is not hexadecimal"))?;
        let mut reader = Reader::new(&octets);
        let signed = Signed::read(&mut reader).and_then(|signed| reader.finish("head").map(|()| signed));
        let signed = signed.map_err(|error| self.lines.wrong(&error))?;
        let head = &signed.head;
        let said = (line.incarnation, line.version, line.rows);
        if line.origin != head.origin.as_str()
            || said != (head.point.incarnation, head.point.version, head.rows)
        {
            return Err(self.lines.wrong("it says something else than its head"));
        }
        Ok(signed)
    }

    /// The rows behind a head; the answer is how many.
    fn origin(&mut self, page: &mut Page<'_>, signed: &Signed) -> Result<u64, Refused> {
        let head = &signed.head;
        let newer_here = self.here.get(&head.origin).is_some_and(|here| *here >= head.point);
        let (book, mut sum, mut weight) = (page.next_book(), Sum::default(), 0);
        for _ in 0..head.rows {
            let row = Arc::new(self.row()?);
            sum.add(&head.origin, &row);
            weight += row.weight() as u64;
            if !newer_here {
                page.fill(book, std::iter::once(&row))?;
            }
        }
        if sum.digest() != head.digest || weight != head.weight {
            let what = format!("the rows of {} before this line do not add up to its head", head.origin);
            return Err(self.lines.wrong(&what).into());
        }
        if newer_here {
            self.restored.newer_here.push(head.origin.to_string());
        } else {
            // The book that it had is removed when a process opens the database.
            page.name(signed, book)?;
            self.here.insert(head.origin.clone(), head.point);
            self.restored.origins += 1;
            self.restored.rows += head.rows;
        }
        Ok(head.rows)
    }

    fn row(&mut self) -> Result<Row, StoreError> {
        let line: OfRow = self.lines.next()?;
        let key = unhex(&line.key).and_then(|key| Key::new(Table(line.table), &key));
        let value = match (line.kind, line.revision, line.body) {
            (None, None, None) => Some(None),
            (Some(kind), Some(revision), Some(body)) => {
                unhex(&body).and_then(|body| Value::new(kind, revision, &body)).map(Some)
            }
            _ => None,
        };
        let (Some(key), Some(value)) = (key, value) else {
            return Err(self.lines.wrong("this is no row"));
        };
        Ok(Row { key, version: line.version, value })
    }
}

struct Lines<'a> {
    from: &'a mut dyn BufRead,
    number: u64,
}

impl Lines<'_> {
    fn next<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        serde_json::from_slice(&text).map_err(|error| self.wrong(&error))
    }

    fn text(&mut self) -> Result<Vec<u8>, StoreError> {
        let mut text = Vec::new();
        self.number += 1;
        Read::take(&mut *self.from, MOST_LINE as u64 + 1)
            .read_until(b'\n', &mut text)
            .map_err(StoreError::Stream)?;
        match text.pop() {
            Some(b'\n') => Ok(text),
            Some(_) if text.len() >= MOST_LINE => Err(self.wrong("longer than a line of a dump may be")),
            _ => Err(self.wrong("the dump ends here: it was cut off")),
        }
    }

    fn wrong(&self, what: &(impl ToString + ?Sized)) -> StoreError {
        StoreError::Dump { line: self.number, what: what.to_string() }
    }
}
