//! What is said to the database: transactions that leave every origin whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::load::seal;
use crate::replication::head::Signed;
use crate::replication::record::{Key, Row};
use crate::replication::version::Origin;

/// Rows of a forsaken book that are removed at once.
const SWEPT: i64 = 1_000;
/// Octets of a page of the database, about.
const PAGE: usize = 4_096;
/// So many written pages are brought from the log into the database at once.
const MANY_PAGES: usize = 1_000;

/// Which book each origin's rows are in.
#[derive(Debug, Default)]
pub(super) struct Books {
    numbers: BTreeMap<Origin, i64>,
    last: i64,
    /// Books that no head names any more.
    forsaken: Vec<i64>,
    /// Names of slots.
    pub slots: BTreeSet<String>,
}

impl Books {
    pub fn known(&mut self, origin: Origin, book: i64) {
        self.numbers.insert(origin, book);
        self.last = self.last.max(book);
    }

    pub fn forsake(&mut self, book: i64) {
        self.forsaken.push(book);
        self.last = self.last.max(book);
    }

    pub fn numbers(&self) -> impl Iterator<Item = i64> {
        self.numbers.values().copied()
    }

    /// A number that was never used.
    pub fn next(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// After the transaction that named it: the origin's book, in place of an older one.
    pub fn replace(&mut self, origin: &Origin, book: i64) {
        if let Some(old) = self.numbers.insert(origin.clone(), book).filter(|old| *old != book) {
            self.forsaken.push(old);
        }
    }

    /// If a transaction that uses it fails, the number stays the origin's: no row has it then.
    fn of(&mut self, origin: &Origin) -> i64 {
        if let Some(book) = self.numbers.get(origin) {
            return *book;
        }
        let book = self.next();
        self.numbers.insert(origin.clone(), book);
        book
    }
}

/// How sure a commit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sure {
    /// On the disk, whatever happens to the power.
    Disk,
    /// With the system: nothing is torn if the power fails, but the last seconds may be missing.
    System,
}

/// A connection, and what is known of the database behind it.
#[derive(Debug)]
pub(super) struct Database<'a> {
    connection: &'a Connection,
    pub books: Books,
    sure: Option<Sure>,
    /// Written since the log was last brought in, about.
    pages: usize,
}

impl<'a> Database<'a> {
    pub fn new(connection: &'a Connection, books: Books) -> Self {
        Self { connection, books, sure: None, pages: 0 }
    }

    pub fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// All that `write` does, or nothing of it.
    pub fn transaction<E: From<rusqlite::Error>>(
        &mut self,
        sure: Sure,
        write: impl FnOnce(&mut Page<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.sure != Some(sure) {
            let word = if sure == Sure::Disk { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", word)?;
            self.sure = Some(sure);
        }
        let transaction = Transaction::new_unchecked(self.connection, TransactionBehavior::Immediate)?;
        let mut page = Page { transaction: &transaction, books: &mut self.books, pages: 4 };
        write(&mut page)?;
        self.pages += page.pages;
        Ok(transaction.commit()?)
    }

    /// Whether the log has something that the database has not.
    pub fn unsettled(&self) -> bool {
        self.pages > 0
    }

    /// Whether that is much.
    pub fn is_log_long(&self) -> bool {
        self.pages >= MANY_PAGES
    }

    /// Brings the log into the database, as far as no reader needs it; then both are on the disk.
    pub fn settle(&mut self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        self.pages = 0;
        Ok(())
    }

    pub fn has_forsaken(&self) -> bool {
        !self.books.forsaken.is_empty()
    }

    /// Removes a piece of a book that no head names.
    pub fn sweep(&mut self) -> rusqlite::Result<()> {
        let Some(&book) = self.books.forsaken.last() else { return Ok(()) };
        let mut removed = 0;
        self.transaction(Sure::System, |page| -> rusqlite::Result<()> {
            removed = page.transaction.execute(
                "DELETE FROM rows WHERE (book, tab, key) IN
                 (SELECT book, tab, key FROM rows WHERE book = ?1 LIMIT ?2)",
                [book, SWEPT],
            )?;
            page.pages += removed / 4;
            Ok(())
        })?;
        if removed < SWEPT as usize {
            self.books.forsaken.pop();
        }
        Ok(())
    }
}

/// One transaction.
pub(super) struct Page<'t> {
    transaction: &'t Connection,
    books: &'t mut Books,
    pages: usize,
}

impl Page<'_> {
    /// The number of a book that has no rows.
    pub fn next_book(&mut self) -> i64 {
        self.books.next()
    }

    /// Changes an origin's rows; the caller's rows lead to this head.
    pub fn change<'r>(
        &mut self,
        head: &Signed,
        rows: impl Iterator<Item = &'r Arc<Row>>,
        gone: impl Iterator<Item = &'r Key>,
    ) -> rusqlite::Result<()> {
        let book = self.books.of(&head.head.origin);
        let mut removed =
            self.transaction.prepare("DELETE FROM rows WHERE book = ?1 AND tab = ?2 AND key = ?3")?;
        for key in gone {
            removed.execute(params![book, key.table.0, &*key.key])?;
            self.pages += 1;
        }
        drop(removed);
        self.fill(book, rows)?;
        self.name(head, book)
    }

    /// Puts rows into a book.
    pub fn fill<'r>(&mut self, book: i64, rows: impl Iterator<Item = &'r Arc<Row>>) -> rusqlite::Result<()> {
        let mut written = self.transaction.prepare(
            "INSERT OR REPLACE INTO rows (book, tab, key, version, kind, revision, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let mut octets = 0;
        for row in rows {
            let (key, version, value) = (&row.key, row.version.cast_signed(), row.value.as_ref());
            written.execute(params![
                book,
                key.table.0,
                &*key.key,
                version,
                value.map(|value| value.kind),
                value.map(|value| value.revision),
                value.map(|value| &*value.body),
            ])?;
            // A quarter of a page for each: some lie together, some alone.
            octets += row.weight() + PAGE / 4;
        }
        self.pages += octets / PAGE;
        Ok(())
    }

    /// From now on this head is the origin's, and its rows are those of this book.
    pub fn name(&mut self, head: &Signed, book: i64) -> rusqlite::Result<()> {
        let mut octets = Vec::new();
        head.put(&mut octets);
        self.transaction.execute(
            "INSERT OR REPLACE INTO heads (origin, book, head) VALUES (?1, ?2, ?3)",
            params![head.head.origin.as_str(), book, seal(head.head.origin.as_str(), octets)],
        )?;
        Ok(())
    }

    pub fn slot(&mut self, name: &str, value: &[u8]) -> rusqlite::Result<()> {
        self.pages += value.len() / PAGE;
        put_slot(self.transaction, name, value)
    }
}

/// Puts slots into a new database.
pub(super) fn keep_slots(connection: &Connection, slots: &BTreeMap<String, Vec<u8>>) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    for (name, value) in slots {
        put_slot(&transaction, name, value)?;
    }
    transaction.commit()
}

fn put_slot(connection: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    let sealed = seal(name, value.to_vec());
    connection
        .execute("INSERT OR REPLACE INTO slots (name, value) VALUES (?1, ?2)", params![name, sealed])?;
    Ok(())
}
