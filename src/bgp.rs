//! The speaker: sessions with neighbors that are told the wanted set of routes, and nothing else.
//!
//! Cores are pure and told the time: [`peer`] is one neighbor with its two possible connections,
//! [`adj_rib_out`] the difference between what a neighbor was sent and what is wanted,
//! [`collision`], [`backoff`] and [`fsm`] their rules. [`transport`] and [`speaker`] are the
//! drivers: they own sockets, the clock and tasks, and hold no rules.
//!
//! Deliberately absent: a routing table. What neighbors announce is parsed, validated, counted,
//! limited and dropped (RFC 8212's default deny, both ways).

pub mod adj_rib_out;
pub mod backoff;
pub mod capability;
pub mod collision;
pub mod fsm;
pub mod message;
pub mod notification;
pub mod origin;
pub mod peer;
pub mod rate;
pub mod received;

pub mod socket;
pub mod speaker;
pub mod transport;
pub mod update;

use std::io;
use std::net::SocketAddr;

/// What ends the speaker as a whole. A session's end is not an error of the speaker.
#[derive(Debug, thiserror::Error)]
pub enum BgpError {
    #[error("cannot accept BGP sessions on {address}: {source}; is another BGP daemon running here?")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the channel of wanted routes closed: the decision has ended")]
    DecisionGone,
}
