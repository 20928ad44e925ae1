//! The backhaul: encrypted tunnels between POPs, and the addresses inside them.

pub mod limit;
pub mod tunnel;
