//! edgeProxy: an anycast router in one process.

// Tests may ask for the time and read files; what they test may not, and is checked without them.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod admin;
pub mod config;
pub mod observe;
pub mod supervise;
