//! Networks of real routers in namespaces: the command.
#![expect(clippy::print_stderr, reason = "a command talks to a terminal")]

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        // Not for people: netlab starts itself as the processes of its hosts.
        Some("internal-service") => match netlab::service::child::run(arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        // A peer of `bench proxy`.
        Some("copy-bidirectional") => match netlab::copy_bidirectional::run(std::env::args_os().skip(2)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("copy-bidirectional: {error}");
                ExitCode::FAILURE
            }
        },
        Some("internal-spin") => {
            netlab::load::run_child();
            ExitCode::SUCCESS
        }
        _ => netlab::cli::main(),
    }
}
