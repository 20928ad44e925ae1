//! Through the proxy clients and backends see of each other what they would see without it.

#[path = "lab/scenario.rs"]
mod scenario;

#[test]
fn the_lab_shows_it() {
    scenario::passes("semantics");
}
