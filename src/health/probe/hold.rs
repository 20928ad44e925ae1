//! The held connection: opened, silent, and watched until it ends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::{classify, connect};
use crate::health::verdict::Failure;

/// A server may greet; one that goes on talking is not left to fill our time.
const CHATTER_BOUND: usize = 64 * 1024;

/// Opens it. The kernel's keepalive notices a machine that vanished, within about half a minute.
///
/// # Errors
/// As a probe's.
pub async fn open(
    target: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> Result<TcpStream, Failure> {
    let connected = tokio::time::timeout(timeout, connect(target, source)).await;
    let stream = connected.unwrap_or(Err(Failure::NoAnswer { within: timeout }))?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(|error| classify(&error))?;
    // What we close we close by a reset: nobody waits for anything on it.
    stream.set_zero_linger().map_err(|error| classify(&error))?;
    Ok(stream)
}

/// Returns when the connection ended, by whatever means.
pub async fn watch(stream: TcpStream) {
    let mut heard = 0;
    let mut buffer = [0; 1024];
    while heard <= CHATTER_BOUND {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => heard += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
