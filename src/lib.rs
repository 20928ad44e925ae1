//! edgeProxy: an anycast router in one process.

pub mod bgp;
pub mod config;
pub mod observe;
pub mod supervise;
pub mod sys;
