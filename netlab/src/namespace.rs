//! One host of the lab: a network namespace held by a descriptor.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::process;
use crate::sys::namespace as sys;

/// How long `ip` may take; both cores may be busy.
const IP: Duration = Duration::from_secs(15);

/// A network namespace. It is gone when the last clone and the last process in it are.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    net: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes a namespace whose loopback is up.
    ///
    /// # Errors
    /// The kernel's; it asks for root.
    pub fn create(name: &str) -> io::Result<Self> {
        // A thread of its own: the caller's namespace must stay what it is.
        let net =
            thread::spawn(sys::unshare_net).join().map_err(|_| io::Error::other("the thread died"))??;
        let namespace = Self { name: name.to_owned(), net: Arc::new(net) };
        namespace.ip(&["link", "set", "lo", "up"])?;
        // Everything a lab sends crosses interfaces that the kernel has no routes back through.
        for (key, value) in [
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/all/accept_dad", "0"),
        ] {
            namespace.sysctl(key, value)?;
        }
        Ok(namespace)
    }

    /// The host's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure on a thread inside the namespace; sockets that it makes stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or the closure panics.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| sys::enter(&self.net).map(|()| inside()));
            thread.join().unwrap_or_else(|_| Err(io::Error::other(format!("a task in {} died", self.name))))
        })
    }

    /// A command that will run inside the namespace with a private `/run`, and die with netlab.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::confine(&mut command, &self.net, true);
        command
    }

    /// A short-lived command that sees the same `/run` as netlab itself.
    pub fn short_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        sys::confine(&mut command, &self.net, false);
        command
    }

    /// Runs `ip` inside the namespace.
    ///
    /// # Errors
    /// With what `ip` said.
    pub fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        let mut command = self.short_command("ip");
        command.args(arguments);
        let output = process::output(command, IP)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{}: ip {}: {}", self.name, arguments.join(" "), said.trim())))
    }

    /// Sets a sysctl by its path under `/proc/sys`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sysctl(&self, path: &str, value: &str) -> io::Result<()> {
        self.run(|| std::fs::write(format!("/proc/sys/{path}"), value))?
            .map_err(|error| io::Error::new(error.kind(), format!("{}: sysctl {path}: {error}", self.name)))
    }

    /// The line that enters the namespace from a shell while `pid` runs in it.
    #[must_use]
    pub fn enter_line(pid: u32) -> String {
        format!("nsenter --net=/proc/{pid}/ns/net")
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.net
    }
}
