//! The backhaul: encrypted tunnels between POPs, and the addresses inside them.

pub mod allowed_ips;
pub mod checksum;
pub mod coalesce;
pub mod icmp;
pub mod limit;
pub mod mesh;
pub mod offload;
pub mod plane;
pub mod segment;
pub mod tunnel;
pub mod userspace;
