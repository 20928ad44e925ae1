//! Networks of real routers in namespaces, watched from outside: topologies, scenarios, benches, and the observer's tools.

pub mod address_watch;
pub mod bench;
pub mod bgp_stream;
pub mod binary;
pub mod capture;
pub mod cli;
pub mod collector;
pub mod copy_bidirectional;
pub mod edgeproxy;
pub mod figures;
pub mod hang;
pub mod lab;
pub mod link;
pub mod load;
pub mod machine;
pub mod moment;
pub mod namespace;
pub mod node;
pub mod process;
pub mod runner;
pub mod scenario;
pub mod service;
pub mod soak;
pub mod sys;
pub mod traffic;
pub mod trial;
