//! A broken configuration changes nothing and says why.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("bad-config");
}
