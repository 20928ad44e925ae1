//! What stands on the hosts of the lab: real routers, as Debian packages them.

pub mod bird;
pub mod router;
