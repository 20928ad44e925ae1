//! What a tunnel must never do: foreign sources, replays, forged handshakes, a peer that is moved by somebody else.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("backhaul-conformance");
}
