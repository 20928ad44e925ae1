//! A backend at another POP keeps a prefix announced, as long as the path to it is good.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("remote-backend");
}
