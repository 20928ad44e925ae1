//! The decision: from what health says to what bgp does.
//!
//! [`facts`] gathers what is known about a prefix, and [`lease`] what the data path proves; [`decide`] judges it with
//! the history that [`damping`] keeps and the ladder of a [`drain`]; [`ledger`] keeps the last judgement of every prefix
//! and makes the wanted set of routes, [`announcer`] drives it. [`addresses`] and [`traffic`] do for
//! it what takes time; [`fleet`] says what the other POPs can spare.

pub mod addresses;
pub mod announcer;
pub mod damping;
pub mod decide;
pub mod drain;
pub mod facts;
pub mod fleet;
pub mod lease;
pub mod ledger;
pub mod reason;
mod report;
pub mod traffic;

/// What ends the decision.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error("cannot talk to the kernel about addresses: {0}")]
    Netlink(#[source] std::io::Error),
    #[error("the channel of {0} closed: its sender has ended")]
    Gone(&'static str),
}
