//! The operating system's edges that no safe library reaches; the only room with `unsafe`.

pub mod address;
pub mod alarm;
pub mod crash;
pub mod datagram;
pub mod descriptors;
pub mod drops;
pub mod flows;
pub mod interface;
pub mod path_mtu;
pub mod priority;
pub mod stream;
pub mod tcp_md5;
pub mod ttl;
pub mod tun;
pub mod wireguard;
