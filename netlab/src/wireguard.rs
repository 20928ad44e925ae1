//! WireGuard as others make it: keys, userspace tunnels of wireguard-go and boringtun, and what is forged for them.

pub mod key;
pub mod message;
pub mod program;
pub mod tunnel;

pub use key::{KeyPair, fill};
pub use program::{Found, Program};
pub use tunnel::{PeerConfig, PeerState, Tunnel, TunnelConfig};
