//! edgeProxy: an anycast router in one process.

// Tests may ask for the time and read files; what they test may not, and is checked without them.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod admin;
pub mod announce;
pub mod appliance;
pub mod backhaul;
pub mod bgp;
pub mod catalog;
pub mod config;
pub mod health;
pub mod observe;
pub mod proxy;
pub mod replication;
pub mod supervise;
pub mod sys;
