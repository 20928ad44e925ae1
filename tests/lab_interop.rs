//! BIRD, FRR and GoBGP take our sessions and routes; what is wrong is refused in plain words.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("interop");
}
