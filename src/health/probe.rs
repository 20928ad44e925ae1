//! Asks one backend one question.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: measures round trips and bounds the opening of held ones"
)]

pub mod hold;
mod http;
mod tcp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::roster::{Job, JobId};
use super::verdict::{Failure, Outcome};
use crate::config::services::Probe;

/// Makes the probe. It has no deadline of its own: the caller drops it at the roster's.
pub async fn run(job: Job) -> (JobId, Outcome) {
    let (target, settings) = (job.target, &job.settings);
    let answer = match &settings.probe {
        // Never handed out by the roster; if it were, it would be what it stands for.
        Probe::Off => Ok(Duration::ZERO),
        Probe::Tcp => tcp::ask(target, settings.source).await,
        // Boxed because HTTP's state is many times that of a handshake.
        Probe::Http(http) => Box::pin(http::ask(target, settings.source, http)).await,
    };
    let outcome = match answer {
        Ok(rtt) => Outcome::Success { rtt },
        Err(failure) => Outcome::Failure(failure),
    };
    (job.id, outcome)
}

/// Connects from a given or any address.
async fn connect(target: SocketAddr, source: Option<IpAddr>) -> Result<TcpStream, Failure> {
    let socket = match target {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(|error| classify(&error))?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0)).map_err(|error| match error.raw_os_error() {
            Some(libc::EADDRNOTAVAIL) => Failure::Local("the source address is not on this machine"),
            _ => classify(&error),
        })?;
        // A bound port stays taken while its connection is in TIME_WAIT, whatever the target was: some
        // hundred probes a second would use them up. Without a source ports are shared among targets.
        socket.set_zero_linger().map_err(|error| classify(&error))?;
    }
    let stream = socket.connect(target).await.map_err(|error| classify(&error))?;
    if stream.local_addr().is_ok_and(|local| local == target) {
        // A probe of a local port in the ephemeral range, on which nobody listens, can be given that very
        // port to start from and then meets itself (RFC 9293 §3.5, simultaneous open).
        return Err(Failure::Refused);
    }
    Ok(stream)
}

/// What an error of a socket says about the backend.
fn classify(error: &io::Error) -> Failure {
    let Some(code) = error.raw_os_error() else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => Failure::Closed,
            _ => Failure::Other(error.to_string()),
        };
    };
    match code {
        libc::ECONNREFUSED => Failure::Refused,
        libc::ECONNRESET | libc::EPIPE => Failure::Reset,
        libc::ENETUNREACH => Failure::Unreachable("no route to its network"),
        libc::EHOSTUNREACH | libc::EHOSTDOWN => Failure::Unreachable("no route to host"),
        libc::ENETDOWN => Failure::Unreachable("the network is down"),
        libc::EMFILE | libc::ENFILE => Failure::Local(Failure::OUT_OF_DESCRIPTORS),
        libc::ENOBUFS | libc::ENOMEM => Failure::Local("out of memory for sockets"),
        libc::EADDRNOTAVAIL | libc::EADDRINUSE => Failure::Local("no free local address or port"),
        libc::EACCES | libc::EPERM => Failure::Local("forbidden by this machine's rules"),
        libc::EAFNOSUPPORT | libc::EINVAL => {
            Failure::Local("this machine does not speak this address family")
        }
        _ => Failure::Other(error.to_string()),
    }
}
