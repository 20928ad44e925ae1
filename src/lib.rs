//! edgeProxy: an anycast router in one process.

pub mod config;
pub mod observe;
pub mod supervise;
