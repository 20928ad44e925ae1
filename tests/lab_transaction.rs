//! A new configuration is a transaction, also for a process that is killed in the middle of it.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("transaction");
}
