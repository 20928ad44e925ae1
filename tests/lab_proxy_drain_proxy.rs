//! A drain of flows that end at the proxy resets none, and ends those over TLS with close_notify.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("drain-proxy");
}
