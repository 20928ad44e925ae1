//! Addresses come before announcements and go after withdrawals.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("order");
}
