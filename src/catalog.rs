//! What is known of services and backends, in the form in which rooms share it: immutable snapshots, and the few
//! counts that all workers keep together.
//!
//! The configuration and the verdicts of `health` go in; `proxy` (and `dns`) choose from what comes out. Everything
//! here is pure but for [`live`], whose atomics are the one place where workers meet.

pub mod backend;
pub mod fleet;
pub mod geo;
pub mod live;
pub mod publisher;
pub mod remote;
pub mod select;
pub mod service;
pub mod stance;
pub mod traffic;
pub mod tunnels;
pub mod view;
