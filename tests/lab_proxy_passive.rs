//! Backends that fail their clients are ejected, with no check to say so.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("passive");
}
