//! Three POPs whose tunnels and backends come from what they tell each other, of which one loses its own and one dies.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("fleet-mesh");
}
