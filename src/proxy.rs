//! The data plane: takes clients in at the anycast address, chooses a backend, and carries octets both ways.

mod access;
pub mod admission;
pub mod affinity;
mod connection;
pub mod desk;
mod dial;
mod door;
pub mod ejection;
pub mod end;
pub mod explain;
pub mod header;
pub mod plan;
pub mod pulse;
pub mod relay;
pub mod reminder;
pub mod report;
mod roll;
pub mod selfprobe;
pub mod source;
pub mod stream;
pub mod tally;
pub mod tls;
pub mod totals;
pub mod udp;
pub mod wheel;
pub mod why;
pub mod worker;

/// Why a part of the data plane ended.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Nobody answers for it any more.
    #[error("the source of the {0} is gone")]
    Gone(&'static str),
    /// The kernel gives no room for another watch.
    #[error("the kernel refuses: {0}")]
    Kernel(#[from] std::io::Error),
}
