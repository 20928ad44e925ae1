//! A backend that hangs is withdrawn by its probes.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("hang");
}
