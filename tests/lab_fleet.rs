//! Five POPs that share a prefix, and what has darkened fleets: it stays announced, and who is dead withdraws.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("fleet");
}
