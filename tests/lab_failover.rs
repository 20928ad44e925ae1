//! Traffic leaves a dead site at once and reaches another.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("failover");
}
