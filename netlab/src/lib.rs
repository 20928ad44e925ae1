//! Networks of real routers in namespaces, watched from outside: topologies, scenarios, benches, and the observer's tools.

pub mod address_watch;
pub mod bgp_stream;
pub mod capture;
pub mod collector;
pub mod figures;
pub mod moment;
pub mod sys;
pub mod traffic;
