//! What a POP knows of the fleet, as a file: made from its database, and taken into another.
#![expect(clippy::disallowed_methods, reason = "driver: reads and writes the file")]

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use edgeproxy::config::load::load;
use edgeproxy::replication::identity::Notary;
use edgeproxy::replication::replica::Trust;
use edgeproxy::replication::replicator;
use edgeproxy::replication::store;
use serde_json::json;

use crate::{Failure, line};

/// Where the database is, in the state of a POP.
const DATABASE: &str = "replication";

/// Writes the database as lines of JSON, also while edgeproxy runs; to standard output if no file is named.
pub(super) fn dump(state: &Path, out: Option<&Path>, as_json: bool) -> Result<String, Failure> {
    let folder = state.join(DATABASE);
    let Some(out) = out else {
        let mut into = BufWriter::new(io::stdout().lock());
        store::dump(&folder, &mut into).map_err(refused)?;
        into.flush().map_err(refused)?;
        return Ok(String::new());
    };
    let named = |error: io::Error| Failure::Refused(format!("{}: {error}", out.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out).map_err(named)?;
    let mut into = BufWriter::new(file);
    let dumped = store::dump(&folder, &mut into).map_err(refused)?;
    into.into_inner().map_err(|error| named(error.into_error()))?.sync_all().map_err(named)?;
    let left_out = match dumped.damaged.as_slice() {
        [] => String::new(),
        damaged => format!("Left out, as their rows do not add up: {}.\n", damaged.join(", ")),
    };
    let text =
        format!("{} rows of {} POPs are in {}.\n{left_out}", dumped.rows, dumped.origins, out.display());
    Ok(if as_json { line(&json!(dumped)) } else { text })
}

/// Takes a dump into the database of a POP whose edgeproxy does not run. Heads are believed by the authorities that the
/// configuration names.
pub(super) fn restore(state: &Path, config: &Path, dump: &Path, as_json: bool) -> Result<String, Failure> {
    let loaded = load(config)?;
    let Some(replication) = &loaded.replication else {
        let why = format!("{} has no `replication`: nobody says whom to believe", config.display());
        return Err(Failure::Refused(why));
    };
    let mut notary = Notary::new(replicator::identity(replication).map_err(refused)?);
    let file = File::open(dump).map_err(|error| Failure::Refused(format!("{}: {error}", dump.display())))?;
    let mut believe = |signed: &_| notary.verify(signed);
    let restored =
        store::restore(&state.join(DATABASE), &mut BufReader::new(file), &mut believe).map_err(refused)?;
    let left = match restored.newer_here.as_slice() {
        [] => String::new(),
        newer => format!("As new or newer here, and left as they are: {}.\n", newer.join(", ")),
    };
    let text = format!("{} rows of {} POPs are taken.\n{left}", restored.rows, restored.origins);
    Ok(if as_json { line(&json!(restored)) } else { text })
}

fn refused(error: impl std::fmt::Display) -> Failure {
    Failure::Refused(error.to_string())
}
