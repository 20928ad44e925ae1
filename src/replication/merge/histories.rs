//! Two histories of one origin become one: after a disk that was lost, rolled back, or put back.
//!
//! INVARIANT: every row that the two do not have in common is written anew, above both ends. So whoever has a state of
//! either history lacks nothing but the rows after it, and the new head may name both among those it continues.

use std::collections::BTreeSet;

use super::super::head::Head;
use super::super::record::{Change, Key, Value};
use super::{Ledger, Prepared, Refusal};

impl Ledger {
    /// What makes the history of an origin that is known here and that of another ledger one. `before` is above both
    /// (`Own::head_above`). What was written since they parted counts, and of what both have written, ours.
    ///
    /// # Errors
    /// When it would be more than the limits allow.
    pub fn reunite(&self, before: Head, theirs: &Self) -> Result<Option<Prepared>, Refusal> {
        let origin = before.origin.clone();
        let Some(their_head) = theirs.head(&origin) else { return Ok(None) };
        let parted = self.head(&origin).map_or(0, |ours| ours.head.parted(&their_head.head));
        let keys: BTreeSet<&Key> =
            self.rows(&origin).chain(theirs.rows(&origin)).map(|row| &row.key).collect();
        let mut changes = Vec::new();
        for key in keys {
            let (ours, theirs) = (self.row(&origin, key), theirs.row(&origin, key));
            if ours == theirs {
                continue;
            }
            let value: Option<Value> = match (ours, theirs) {
                (Some(ours), _) if ours.version > parted => ours.value.clone(),
                (_, Some(theirs)) if theirs.version > parted => theirs.value.clone(),
                // Both had it when they parted, and one of them has deleted it since and forgotten the tombstone.
                (None, _) | (_, None) => None,
                (Some(_), Some(theirs)) => theirs.value.clone(),
            };
            changes.push(Change { key: key.clone(), value });
        }
        let floor = before.floor;
        self.prepare(before, &changes, floor)
    }
}
