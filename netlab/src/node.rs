//! What stands on the hosts of the lab: real routers, as Debian packages them.

pub mod bird;
pub mod exabgp;
pub mod frr;
pub mod gobgp;
pub mod router;
