//! Every reason of the decision is brought about, and its explanation names the true cause.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("explain");
}
