//! What POPs know of each other: each writes what is its own, and all of them hold all of it.

pub mod dial;
pub mod digest;
pub mod frame;
pub mod head;
pub mod heartbeat;
pub mod identity;
pub mod membership;
pub mod merge;
pub mod octets;
pub mod own;
pub mod parts;
pub mod quic;
pub mod rates;
pub mod record;
pub mod relay_tree;
pub mod replica;
pub mod replicator;
pub mod store;
pub mod sync;
pub mod tables;
pub mod version;
pub mod voters;

use std::io;
use std::net::SocketAddr;

/// Why replication ended or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ReplicationError {
    #[error(
        "replication cannot listen on {listen}: {source}\n  hint: is another process there? `replication.listen` chooses another port"
    )]
    Listen { listen: SocketAddr, source: io::Error },
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error("a thread of replication: {0}")]
    Thread(#[from] crate::supervise::End),
    #[error("a thread of replication cannot begin: {0}")]
    Start(#[from] io::Error),
    #[error("the system gives no random octets")]
    NoRandomness,
    #[error("the certificates are no use for replication: {0}")]
    Identity(String),
}
