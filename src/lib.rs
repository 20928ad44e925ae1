//! edgeProxy: an anycast router in one process.

pub mod config;
pub mod health;
pub mod observe;
