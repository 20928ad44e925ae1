//! A process of the lab: started inside a host, logged to a file, signalled by pid, reaped at the end.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
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
            thread::sleep(Duration::from_millis(1));
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

/// The most that is read of a command's words.
const LONGEST_OUTPUT: u64 = 16 << 20;

/// Runs a command of a host to its end and answers what it said.
///
/// # Errors
/// When it cannot be started; `TimedOut` when it goes on for longer, and then it and its children are killed.
pub fn output(mut command: Command, within: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let deadline = Instant::now() + within;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = scope.spawn(|| read(stdout));
        let stderr = scope.spawn(|| read(stderr));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() >= deadline {
                break None;
            }
            thread::sleep(Duration::from_millis(1));
        };
        // Its session: what it left in the background would hold the pipes open, and this function with them.
        sys::signal_group(child.id(), libc::SIGKILL);
        let status = match status {
            Some(status) => Ok(status),
            None => {
                child.kill()?;
                child.wait()?;
                let words = format!("no end within {} ms", within.as_millis());
                Err(io::Error::new(io::ErrorKind::TimedOut, words))
            }
        };
        let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
        Ok(Output { status: status?, stdout, stderr })
    })
}

fn read(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before an error is still worth showing.
        let _ = pipe.take(LONGEST_OUTPUT).read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    fn shell(text: &str) -> Command {
        let mut command = Command::new("sh");
        // As commands of a host are: alone in their group.
        command.args(["-c", text]).process_group(0);
        command
    }

    #[test]
    fn a_command_says_its_words_and_its_code() {
        let said = output(shell("echo out; echo err >&2; exit 3"), Duration::from_secs(10)).unwrap();
        assert_eq!((said.stdout, said.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
        assert_eq!(said.status.code(), Some(3));
    }

    #[test]
    fn no_command_holds_the_lab_up() {
        let before = Instant::now();
        let late = output(shell("sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        // What is left in the background keeps the pipes open.
        assert!(output(shell("sleep 60 & echo done"), Duration::from_secs(30)).unwrap().status.success());
        assert!(before.elapsed() < Duration::from_secs(20), "{:?}", before.elapsed());
    }
}
