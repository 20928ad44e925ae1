//! A process of the lab: started inside a host, logged to a file, signalled by pid, reaped at the end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::moment::Moment;
use crate::sys::namespace as sys;

/// A running (or ended) process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a command whose output is appended to `log`. A piped standard input stays piped.
    ///
    /// # Errors
    /// When the program or the log cannot be opened.
    pub fn start(name: &str, mut command: Command, log: &Path) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        command.stdout(Stdio::from(out.try_clone()?)).stderr(Stdio::from(out));
        let child = command.spawn().map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot start {name} ({}): {error}", command.get_program().display()),
            )
        })?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), status: None })
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, once.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Sends a signal; the answer is the moment right before it was sent.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: i32) -> io::Result<Moment> {
        let at = Moment::now();
        if self.status.is_some() {
            return Err(io::Error::other(format!("{} has ended already", self.name)));
        }
        sys::signal(self.pid(), signal)?;
        Ok(at)
    }

    /// Kills it at once and reaps it; the answer is the moment right before the kill.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> io::Result<Moment> {
        let at = self.signal(libc::SIGKILL)?;
        self.wait(Duration::from_secs(5))?;
        Ok(at)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// `TimedOut` when it goes on.
    pub fn wait(&mut self, within: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.poll() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let words = format!("{} did not end within {} ms", self.name, within.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.poll().is_none() {
            // The whole session: a router may have children of its own.
            sys::signal_group(self.pid(), libc::SIGKILL);
            let _ = sys::signal(self.pid(), libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
