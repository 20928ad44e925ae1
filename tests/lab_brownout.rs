//! A brown-out de-prefers and does not withdraw.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("brownout");
}
