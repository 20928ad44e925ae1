//! Under minutes of random faults no prefix stays announced while nobody serves it.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("soak");
}
