//! Tunnels with Debian's wireguard-go, both ways, and after either end was killed.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("backhaul-interop");
}
