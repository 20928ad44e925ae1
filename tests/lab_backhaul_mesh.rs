//! Twelve POPs with a tunnel to every other, of which one is killed.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("mesh");
}
