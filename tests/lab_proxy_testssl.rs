//! testssl.sh finds nothing of medium severity or worse.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
#[ignore = "takes minutes: in the full form"]
fn the_lab_shows_it() {
    scenario::passes("testssl");
}
