//! Hard limits hold, for bound clients and for those who come at once.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("limits");
}
