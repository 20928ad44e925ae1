//! Where the programs built with netlab are: named by the environment, or beside the running one.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

/// netlab itself, also from a test: `NETLAB_BIN`, or the one beside this process.
///
/// # Errors
/// When it is not there, with what to do.
pub fn netlab() -> io::Result<PathBuf> {
    find("netlab", "NETLAB_BIN", "cargo build -p netlab")
}

/// The router under test: `EDGEPROXY_BIN`, or the one beside this process.
///
/// # Errors
/// When it is not there, with what to do.
pub fn edgeproxy() -> io::Result<PathBuf> {
    find("edgeproxy", "EDGEPROXY_BIN", "cargo build -p edgeproxy")
}

/// What `netlab bench replication` measures: `REPLICATION_BENCH_BIN`, or the one among the examples beside this process.
///
/// # Errors
/// When it is not there, with what to do.
pub fn replication_bench() -> io::Result<PathBuf> {
    let build = "cargo build --release -p edgeproxy --example replication_bench";
    find("examples/replication_bench", "REPLICATION_BENCH_BIN", build)
}

fn find(name: &str, variable: &str, build: &str) -> io::Result<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        // A command of the lab may start in another directory.
        return std::path::absolute(named);
    }
    let running = env::current_exe()?;
    beside(&running, name, Path::is_file).ok_or_else(|| {
        let words = format!("no {name} beside {}: run `{build}`, or set {variable}", running.display());
        io::Error::new(io::ErrorKind::NotFound, words)
    })
}

/// Test executables lie one directory below, in `deps`.
fn beside(running: &Path, name: &str, is_there: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let directory = running.parent()?;
    let above = directory.parent().filter(|_| directory.ends_with("deps"));
    above.into_iter().chain([directory]).map(|directory| directory.join(name)).find(|path| is_there(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_beside_the_running_one_or_above_the_tests() {
        let built = |path: &Path| path == Path::new("/t/debug/edgeproxy");
        let found = Some(PathBuf::from("/t/debug/edgeproxy"));
        assert_eq!(beside(Path::new("/t/debug/netlab"), "edgeproxy", built), found);
        assert_eq!(beside(Path::new("/t/debug/deps/services-1a"), "edgeproxy", built), found);
        assert_eq!(beside(Path::new("/t/debug/other/netlab"), "edgeproxy", built), None);
    }
}
