//! What the process measures of its withdrawals is what captures see of them.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("histogram");
}
