//! Networks of real routers in namespaces, watched from outside: topologies, scenarios, benches, and the observer's tools.
#![expect(clippy::disallowed_methods, reason = "driver: a lab is all clocks, threads, files and processes")]

pub mod address_watch;
pub mod bgp_stream;
pub mod capture;
pub mod collector;
pub mod figures;
pub mod link;
pub mod moment;
pub mod namespace;
pub mod process;
pub mod sys;
pub mod traffic;
