//! A worker of the proxy that stands still withdraws the prefix within its lease.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("lease");
}
