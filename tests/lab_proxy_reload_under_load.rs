//! Fifty reloads under load cost no request.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("reload-under-load");
}
