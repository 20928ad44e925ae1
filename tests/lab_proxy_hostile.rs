//! Strangers who do their worst at once cost legitimate clients little, and memory nothing.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("hostile");
}
