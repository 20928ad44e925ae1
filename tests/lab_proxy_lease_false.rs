//! A busy machine, a full disk and a jump of the clock withdraw nothing.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("lease-false");
}
