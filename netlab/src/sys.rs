//! The system calls that have no safe wrapper; the only place of the crate with `unsafe`.

pub mod datagrams;
pub mod descriptors;
pub mod namespace;
pub mod packet;
