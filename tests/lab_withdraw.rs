//! A killed backend is withdrawn within milliseconds, and its return is one UPDATE.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("withdraw");
}
