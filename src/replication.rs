//! What POPs know of each other: each writes what is its own, and all of them hold all of it.

pub mod digest;
pub mod head;
pub mod octets;
pub mod record;
pub mod store;
pub mod version;
