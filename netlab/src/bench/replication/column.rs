//! The columns of the bench: what is done with rows, and what it should reach.

use std::fmt;

/// One kind of work. The order is that of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Pushes of so many rows into the ledger: sixteen POPs in turn, every row replaces another.
    Push1,
    Push16,
    Push256,
    /// 100,000 rows of one POP at once, where nothing was known of it.
    Snapshot,
    /// The same where one row in ten is different from what was known.
    SnapshotAgain,
    /// Pushes from their octets on, with the proof of the signature.
    Signed1,
    Signed16,
    /// Pushed rows of sixteen POPs, written behind.
    SqlitePush,
    /// A snapshot, written behind.
    SqliteSnapshot,
    /// 100,000 rows of a hundred POPs in memory.
    Memory,
}

impl Column {
    pub const ALL: [Column; 10] = [
        Self::Push1,
        Self::Push16,
        Self::Push256,
        Self::Snapshot,
        Self::SnapshotAgain,
        Self::Signed1,
        Self::Signed16,
        Self::SqlitePush,
        Self::SqliteSnapshot,
        Self::Memory,
    ];

    /// Its word in figures, on the command line, and for the program that is measured.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Push1 => "push_1",
            Self::Push16 => "push_16",
            Self::Push256 => "push_256",
            Self::Snapshot => "snapshot",
            Self::SnapshotAgain => "snapshot_again",
            Self::Signed1 => "signed_1",
            Self::Signed16 => "signed_16",
            Self::SqlitePush => "sqlite_push",
            Self::SqliteSnapshot => "sqlite_snapshot",
            Self::Memory => "memory",
        }
    }

    /// Rows per processor second; of what goes to the disk, on the wall too.
    #[must_use]
    pub fn goal(self) -> Option<&'static str> {
        match self {
            Self::Push1 | Self::Push16 | Self::Push256 | Self::Snapshot | Self::SnapshotAgain => {
                Some(">= 50000 rows/s")
            }
            Self::SqlitePush | Self::SqliteSnapshot => Some(">= 30000 rows/s"),
            // A signature is as dear for one row as for five hundred.
            Self::Signed1 | Self::Signed16 | Self::Memory => None,
        }
    }

    /// Whether the wall counts: the disk is waited for.
    #[must_use]
    pub fn is_on_disk(self) -> bool {
        matches!(self, Self::SqlitePush | Self::SqliteSnapshot)
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The columns whose words begin as one of these do; all if there are none.
///
/// # Errors
/// With the words there are, when one fits nothing.
pub fn chosen(words: &[String]) -> Result<Vec<Column>, String> {
    crate::bench::choice::chosen(&Column::ALL, Column::word, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_by_their_beginning_and_goals_can_be_read() {
        assert_eq!(chosen(&[]).unwrap(), Column::ALL);
        assert_eq!(chosen(&["sqlite".to_owned()]).unwrap(), [Column::SqlitePush, Column::SqliteSnapshot]);
        assert!(chosen(&["rows".to_owned()]).unwrap_err().contains("push_16"));
        for goal in Column::ALL.into_iter().filter_map(Column::goal) {
            assert!(goal.parse::<crate::figures::Goal>().is_ok(), "{goal}");
        }
    }
}
