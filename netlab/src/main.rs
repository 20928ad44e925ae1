//! Networks of real routers in namespaces.
fn main() {}
