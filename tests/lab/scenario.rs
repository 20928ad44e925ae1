//! Runs a scenario of the lab with the real binaries; without root it says loudly that it did not.
#![allow(clippy::disallowed_methods, clippy::print_stderr)] // A lab is told where its binaries are, and must be loud.

use std::path::PathBuf;
use std::process::Command;

/// Runs the scenario; its behaviour is asserted, its figures are reported.
pub fn passes(scenario: &str) {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if !root {
        eprintln!("!! the lab {scenario} needs root: IT DID NOT RUN");
        return;
    }
    let status = Command::new(netlab())
        .args(["run", scenario, "--verbose", "--json", "-"])
        .status()
        .expect("netlab is built: `cargo build --workspace`");
    assert!(status.success(), "scenario {scenario} failed: its words are above");
}

/// `NETLAB_BIN`, or the one that was built beside this test.
fn netlab() -> PathBuf {
    std::env::var_os("NETLAB_BIN").map_or_else(
        || {
            let test = std::env::current_exe().expect("a test has a path");
            let debug = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
            debug.join("netlab")
        },
        PathBuf::from,
    )
}
