//! The TCP probe: a handshake, and nothing said.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{classify, connect};
use crate::health::verdict::Failure;

/// Connects and resets; gives the time of the handshake.
///
/// The connection ends with a reset instead of a close, because a close would leave one TIME_WAIT entry
/// per probe for a minute, on the prober's side: a hundred thousand of them with two thousand backends
/// probed each second. Nothing was said on the connection, so no data can be lost by it.
pub(super) async fn ask(target: SocketAddr, source: Option<IpAddr>) -> Result<Duration, Failure> {
    let start = Instant::now();
    let stream = connect(target, source).await?;
    let rtt = start.elapsed();
    stream.set_zero_linger().map_err(|error| classify(&error))?;
    Ok(rtt)
}
