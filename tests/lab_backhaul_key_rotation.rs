//! Ten thousand packets a second while both ends change their keys, and none is lost.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("key-rotation");
}
