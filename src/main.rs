//! The command line: arguments, runtimes, exit codes.

fn main() {}
