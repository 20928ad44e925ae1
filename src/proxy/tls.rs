//! TLS that ends at the proxy: rustls makes the handshakes, and the records after them are sealed and opened in place.

pub mod expiry;
pub mod hello;
pub mod provider;
pub mod record;
mod self_signed;
pub mod session;
pub mod store;
pub mod tickets;
