//! A process whose BGP thread hangs loses its routes at once; a busy machine or a pause does not end it.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("hang-bgp");
}
