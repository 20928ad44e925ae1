//! The tables of the database, and how a connection to it is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

/// Of the tables. A later one is not read.
const VERSION: i32 = 1;
/// Says that a database is ours: `edgP`.
const APPLICATION: i32 = 0x6564_6750;
/// A shell that somebody left open is waited for this long.
const BUSY: Duration = Duration::from_secs(1);

/// Rows are numbered by book and not by origin: all rows of an origin are replaced by writing another book, in pieces,
/// and naming that one in the head. Books that no head names are removed in pieces as well.
const TABLES: &str = "
    CREATE TABLE heads (
        origin TEXT NOT NULL PRIMARY KEY,
        book INTEGER NOT NULL UNIQUE,
        head BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rows (
        book INTEGER NOT NULL,
        tab INTEGER NOT NULL,
        key BLOB NOT NULL,
        version INTEGER NOT NULL,
        kind INTEGER,
        revision INTEGER,
        body BLOB,
        PRIMARY KEY (book, tab, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE slots (
        name TEXT NOT NULL PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// What keeps a database from being used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Fault {
    /// The disk, the folder, another process: it may be better the next time.
    #[error("{0}")]
    Weather(rusqlite::Error),
    #[error("{0}")]
    Damage(String),
    #[error("it was written by a later edgeproxy")]
    Later,
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        if is_weather(&error) { Self::Weather(error) } else { Self::Damage(error.to_string()) }
    }
}

fn is_weather(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, OperationInterrupted,
        OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | FileLockingProtocolFailed
                | OperationInterrupted
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}

/// Whether an error of a database in use says that it is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Opens the database for writing and makes its tables if it is new.
pub(super) fn connect(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // Corrupt cells are seen when they are read, and a schema that somebody wrote runs nothing.
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;")?;
    judge(&connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Fault::Damage(format!("it cannot be used with a write-ahead log, only with `{mode}`")));
    }
    // The log is brought into the database when nobody waits for a write, and does not stay large.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216; PRAGMA cache_size = -8192;
         PRAGMA temp_store = MEMORY;",
    )?;
    connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
    if is_empty(&connection)? {
        let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// Opens the database for reading beside a process that writes it.
pub(super) fn look(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;")?;
    judge(&connection)?;
    Ok(connection)
}

/// Whether this edgeproxy may read it: an empty one, or one of its own tables.
fn judge(connection: &Connection) -> Result<(), Fault> {
    if is_empty(connection)? {
        return Ok(());
    }
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    match (application, version) {
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, later) if later > VERSION => Err(Fault::Later),
        (APPLICATION, other) => Err(Fault::Damage(format!("its tables have the unknown version {other}"))),
        _ => Err(Fault::Damage("it is no database of edgeproxy's".to_owned())),
    }
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}
