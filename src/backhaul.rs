//! The backhaul: encrypted tunnels between POPs, and the addresses inside them.

pub mod allowed_ips;
pub mod checksum;
pub mod coalesce;
pub mod fabric;
pub mod guard;
pub mod icmp;
pub mod kernel;
pub mod limit;
pub mod link;
pub mod mesh;
pub mod news;
pub mod offload;
pub mod paths;
pub mod plane;
pub mod probe;
pub mod quality;
pub mod relay;
pub mod segment;
pub mod tunnel;
pub mod userspace;

use std::io;

/// Why a part of the backhaul ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BackhaulError {
    /// The words say what to do.
    #[error("{0}")]
    Plane(#[source] io::Error),
    #[error("{0}")]
    NoKernel(#[source] io::Error),
    #[error(transparent)]
    Key(#[from] crate::config::key_file::KeyFileError),
    #[error("a thread of the backhaul: {0}")]
    Thread(#[from] crate::supervise::End),
    #[error("the interface of the backhaul is gone: {0}")]
    Interface(#[source] io::Error),
}
