//! The data plane: takes clients in at the anycast address, chooses a backend, and carries octets both ways.

pub mod relay;
pub mod stream;
