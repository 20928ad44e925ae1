//! Two POPs whose way is cut go on through a third, and back.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("relay");
}
