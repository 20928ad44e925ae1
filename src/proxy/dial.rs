//! One attempt to reach a backend.
#![expect(clippy::disallowed_methods, reason = "driver: connects, and waits for it no longer than it may")]

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::stream::Stream;
use crate::sys::stream as kernel;

/// Connects within a time.
///
/// # Errors
/// The kernel's, and `TimedOut` when the time is over.
pub async fn dial(to: SocketAddr, within: Duration) -> io::Result<Stream> {
    let (socket, is_connected) = kernel::connect(to, None)?;
    let stream = Stream::new(socket, false)?;
    if is_connected {
        return Ok(stream);
    }
    // Few wait here, and those not for long: their timers need no room in every connection.
    Box::pin(timeout(within, poll_fn(|context| stream.poll_connected(context))))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(stream)
}
