//! What POPs know of each other: each writes what is its own, and all of them hold all of it.

pub mod digest;
pub mod frame;
pub mod head;
pub mod merge;
pub mod octets;
pub mod own;
pub mod record;
pub mod relay_tree;
pub mod replica;
pub mod sync;
pub mod version;
