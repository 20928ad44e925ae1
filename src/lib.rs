//! edgeProxy: an anycast router in one process.

pub mod admin;
pub mod config;
pub mod observe;
pub mod supervise;
