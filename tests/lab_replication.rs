//! Five POPs that replicate, of which one dies, one loses its disk, and one its way to the others.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("replication");
}
