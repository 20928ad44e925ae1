//! Tells systemd how the process is, by its `sd_notify` protocol (a datagram of `KEY=value` lines).

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::time::{ClockId, clock_gettime};

/// Where systemd listens, if it does. Telling never blocks and never fails loudly: the process does
/// its work also where nobody wants to know.
#[derive(Debug)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// For the value of `NOTIFY_SOCKET`: a path, or `@name` for an abstract socket; None tells nobody.
    #[must_use]
    pub fn new(address: Option<OsString>) -> Self {
        let to = address.and_then(|address| match open(address.as_bytes()) {
            Ok(to) => Some(to),
            Err(error) => {
                tracing::debug!(?address, %error, "systemd cannot be told");
                None
            }
        });
        Self { to }
    }

    /// Start or reload is complete.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins; [`Notify::ready`] ends it.
    pub fn reloading(&self) {
        // systemd tells by the stamp, in µs of the monotonic clock, which reload READY=1 belongs to.
        let micros = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// A planned stop begins.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// Still alive, for `WatchdogSec=`.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`; cut at 200 characters, line breaks become spaces.
    pub fn status(&self, line: &str) {
        let line: String = line.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.send(&format!("STATUS={line}"));
    }

    fn send(&self, state: &str) {
        if let Some((socket, address)) = &self.to
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::debug!(%error, state, "systemd was not told");
        }
    }
}

fn open(address: &[u8]) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn speaks_the_protocol_over_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::new(Some(path.into()));
        notify.ready();
        assert_eq!(heard(&systemd), "READY=1");
        notify.stopping();
        assert_eq!(heard(&systemd), "STOPPING=1");
        notify.watchdog();
        assert_eq!(heard(&systemd), "WATCHDOG=1");
        notify.status("two\nREADY=1");
        assert_eq!(heard(&systemd), "STATUS=two READY=1");
        notify.reloading();
        let told = heard(&systemd);
        let stamp = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(stamp.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn speaks_to_an_abstract_socket() {
        let name = format!("edgeproxy-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        Notify::new(Some(format!("@{name}").into())).ready();
        assert_eq!(heard(&systemd), "READY=1");
    }

    #[test]
    fn nobody_listening_is_no_failure() {
        Notify::new(None).ready();
        Notify::new(Some("/nonexistent/notify".into())).ready();
        Notify::new(Some(OsString::from("x".repeat(400)))).ready();
        Notify::new(Some(OsString::new())).ready();
    }

    #[test]
    fn a_full_socket_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _systemd = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::new(Some(path.into()));
        for _ in 0..10_000 {
            notify.watchdog();
        }
    }
}
