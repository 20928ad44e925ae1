//! A drainping backend costs few UPDATEs.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("drain");
}
