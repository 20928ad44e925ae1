//! The router under test as a host's process: configured by a text, asked over its admin socket, signalled, restarted.

pub mod configuration;
pub mod talk;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binary;
use crate::hang::{self, Hang};
use crate::machine;
use crate::moment::Moment;
use crate::namespace::Namespace;
use crate::process::Process;

/// How long a question may take.
const ASK: Duration = Duration::from_secs(2);
/// A command may wait for others: a little longer than the router itself gives it.
const COMMAND: Duration = Duration::from_secs(9);
/// How long the command line may take.
const CLI: Duration = Duration::from_secs(15);
/// How long a process of which a thread hangs may take to end.
const END: Duration = Duration::from_secs(5);
/// How long a start may take; both cores may be busy.
const START: Duration = Duration::from_secs(15);
/// The longest wait for threads that a signal stops.
const STANDSTILL: Duration = Duration::from_millis(100);
/// A Unix socket's address ends here (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// An edgeproxy of the lab. Dropping it kills it.
#[derive(Debug)]
pub struct EdgeProxy {
    namespace: Namespace,
    binary: PathBuf,
    work_dir: PathBuf,
    /// Before the process: it is let go before that is waited for.
    hung: Option<Hang>,
    /// Variables of its next start, besides those of the lab.
    environment: BTreeMap<String, String>,
    /// How many descriptors its next starts may have.
    descriptors: Option<u64>,
    /// The size of a disk of its own for its state.
    state_size: Option<String>,
    process: Option<Process>,
}

impl EdgeProxy {
    /// Writes `edgeproxy.yaml` and the secrets (mode 0600) into `work_dir`, which is made if missing.
    /// The text gets `admin` and `observe` sections if it has none; secrets are named in it by file
    /// name alone. Nothing is started yet.
    ///
    /// # Errors
    /// When the binary is not built, the directory's path is too long for a socket in it or under
    /// `/run` (a host has its own), or a file cannot be written.
    pub fn new(
        namespace: &Namespace,
        work_dir: &Path,
        yaml: &str,
        secrets: &BTreeMap<String, String>,
    ) -> io::Result<Self> {
        let invalid = |words: String| io::Error::new(io::ErrorKind::InvalidInput, words);
        let work_dir = std::path::absolute(work_dir)?;
        if work_dir.starts_with("/run") || work_dir.starts_with("/var/run") {
            return Err(invalid(format!(
                "{} is hidden from hosts: each has a /run of its own",
                work_dir.display()
            )));
        }
        fs::create_dir_all(&work_dir)?;
        let node = Self {
            namespace: namespace.clone(),
            binary: binary::edgeproxy()?,
            work_dir,
            hung: None,
            environment: BTreeMap::new(),
            descriptors: None,
            state_size: None,
            process: None,
        };
        let socket = node.socket();
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(invalid(format!("{} is too long for a Unix socket", socket.display())));
        }
        for (name, text) in secrets {
            node.write_secret(name, text)?;
        }
        node.rewrite(yaml)?;
        Ok(node)
    }

    /// The configuration file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.work_dir.join("edgeproxy.yaml")
    }

    /// The admin socket, unless the configuration names another.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.work_dir.join("edgeproxy.sock")
    }

    /// What the process wrote since it was first started.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.work_dir.join("edgeproxy.log")
    }

    /// The directory of what a restart of the process must not forget.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.work_dir.join("state")
    }

    /// What its next starts find in their environment besides what the lab sets.
    pub fn set_environment(&mut self, environment: BTreeMap<String, String>) {
        self.environment = environment;
    }

    /// How many descriptors its next starts may have at most; None: as many as netlab.
    pub fn set_descriptors(&mut self, descriptors: Option<u64>) {
        self.descriptors = descriptors;
    }

    /// Puts the state of its next starts on a disk of its own, in memory and of that size, such as `1m`. It forgets
    /// everything when the process ends.
    pub fn set_state_size(&mut self, size: Option<String>) {
        self.state_size = size;
    }

    /// The process's pid while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        let process = self.process.as_mut()?;
        process.is_running().then(|| process.pid())
    }

    /// Writes a secret beside the configuration, mode 0600.
    ///
    /// # Errors
    /// When the name is more than a file name, or the file cannot be written.
    pub fn write_secret(&self, name: &str, text: &str) -> io::Result<()> {
        let mut parts = Path::new(name).components();
        let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no file name")));
        };
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(self.work_dir.join(name))?;
        file.write_all(text.as_bytes())
    }

    /// Writes a new configuration, completed as in `new`. The process does not know of it until a reload.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite(&self, yaml: &str) -> io::Result<()> {
        // Renamed into place: no reload may see half of it.
        let fresh = self.work_dir.join("edgeproxy.yaml.new");
        fs::write(&fresh, configuration::complete(yaml, &self.socket()))?;
        fs::rename(fresh, self.file())
    }

    /// Writes a configuration as it is, with nothing added: for files that must be refused.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn rewrite_as_is(&self, yaml: &str) -> io::Result<()> {
        let fresh = self.work_dir.join("edgeproxy.yaml.new");
        fs::write(&fresh, yaml)?;
        fs::rename(fresh, self.file())
    }

    /// The program.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Starts the process and waits until it answers on its socket; the moment right before the start.
    /// It dies with the thread that called. A process of which a thread hangs must end by itself first.
    ///
    /// # Errors
    /// When it runs already, ends (with its last words), or does not answer within 15 s.
    pub fn start(&mut self) -> io::Result<Moment> {
        if let Some(_hung) = self.hung.take() {
            self.wait_exit(END)?;
        }
        if self.pid().is_some() {
            return Err(self.error(io::ErrorKind::AlreadyExists, "runs already"));
        }
        let at = self.launch()?;
        let deadline = Instant::now() + START;
        loop {
            let answer = talk::ask(&self.socket(), "GET", "/v1/status", ASK);
            if matches!(answer, Ok((200, _))) {
                return Ok(at);
            }
            if self.pid().is_none() {
                return Err(self.error(io::ErrorKind::Other, "ended at once"));
            }
            if Instant::now() >= deadline {
                let words = format!("does not answer after {} s: {answer:?}", START.as_secs());
                return Err(self.error(io::ErrorKind::TimedOut, &words));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts the process and waits for nothing: for configurations that it must refuse.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> io::Result<Moment> {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(size) = &self.state_size {
            fs::create_dir_all(self.state())?;
            // Seen by this process only: every process of a host has mounts of its own.
            let mount = r#"mount -t tmpfs -o "size=$0" tmpfs "$1" && shift && exec "$@""#;
            words.extend(["sh".into(), "-c".into(), mount.into(), size.into(), self.state().into()]);
        }
        if let Some(most) = self.descriptors {
            words.extend(["prlimit".into(), format!("--nofile={most}:{most}").into()]);
        }
        words.push(self.binary.clone().into());
        let mut command = self.namespace.command(&words[0]);
        command.args(&words[1..]);
        command.arg("run").arg(self.file()).current_dir(&self.work_dir).stdin(Stdio::null());
        // Not systemd's child, even if netlab is.
        command.env("EDGEPROXY_STATE", self.state());
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("EDGEPROXY_BIN");
        command.envs(&self.environment);
        let at = Moment::now();
        self.process = Some(Process::start(self.namespace.name(), command, &self.log())?);
        Ok(at)
    }

    /// The whole status document: `{process, neighbors, prefixes, services}`.
    ///
    /// # Errors
    /// When it does not answer within 2 s, or not with a document.
    pub fn status(&self) -> io::Result<Value> {
        self.document("/v1/status")
    }

    /// What the data plane carries: `{workers, open, doors, services, …}`.
    ///
    /// # Errors
    /// As `status`.
    pub fn traffic(&self) -> io::Result<Value> {
        self.document("/v1/backends")
    }

    fn document(&self, path: &str) -> io::Result<Value> {
        let (status, body) = self.ask("GET", path, ASK)?;
        if status != 200 {
            return Err(self.error(io::ErrorKind::Other, &format!("answered {status} to {path}: {body}")));
        }
        serde_json::from_str(&body).map_err(|error| {
            self.error(io::ErrorKind::InvalidData, &format!("answered no document: {error}"))
        })
    }

    /// Asks for the status until it is as wanted, and answers that one.
    ///
    /// # Errors
    /// `TimedOut` with the last document, or what `status` says at the end.
    pub fn wait_status(
        &self,
        what: &str,
        within: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> io::Result<Value> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.status();
            if let Ok(status) = &status
                && wanted(status)
            {
                return Ok(status.clone());
            }
            if Instant::now() >= deadline {
                let words = format!("waited {} ms for {what}; last: {:#}", within.as_millis(), status?);
                return Err(self.error(io::ErrorKind::TimedOut, &words));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Any request to the admin socket: status and body.
    ///
    /// # Errors
    /// When there is no whole answer in time.
    pub fn ask(&self, method: &str, target: &str, within: Duration) -> io::Result<(u16, String)> {
        talk::ask(&self.socket(), method, target, within)
            .map_err(|error| self.error(error.kind(), &error.to_string()))
    }

    /// Reloads by command: what changed, in words, or `Err` of the router's refusal.
    ///
    /// # Errors
    /// When it does not answer within 9 s.
    pub fn reload_by_command(&self) -> io::Result<Result<String, String>> {
        let (status, body) = self.ask("POST", "/v1/reload", COMMAND)?;
        let document: Value = serde_json::from_str(&body).unwrap_or_default();
        let words = |key: &str| document[key].as_str().map_or_else(|| body.clone(), str::to_owned);
        Ok(if status == 200 { Ok(words("text")) } else { Err(format!("{status}: {}", words("error"))) })
    }

    /// Reloads by SIGHUP. The outcome shows in `status` (`process.generation`, `process.refused_reload`).
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload_by_signal(&self) -> io::Result<Moment> {
        self.signal(libc::SIGHUP)
    }

    /// Runs the command line inside the host, with `EDGEPROXY_SOCKET` set, killed after 15 s.
    ///
    /// # Errors
    /// When it cannot be started or does not end; a failure of the command is in the output.
    pub fn cli(&self, arguments: &[&str]) -> io::Result<Output> {
        let mut command = self.namespace.short_command(&self.binary);
        command.args(arguments).current_dir(&self.work_dir).env("EDGEPROXY_SOCKET", self.socket());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.env_remove("EDGEPROXY_BIN").spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let deadline = Instant::now() + CLI;
        thread::scope(|scope| {
            let stdout = scope.spawn(|| drain(out));
            let stderr = scope.spawn(|| drain(err));
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
                if Instant::now() >= deadline {
                    // Also ends the two readers.
                    child.kill()?;
                    child.wait()?;
                    let words = format!("`{}` did not end within {} s", arguments.join(" "), CLI.as_secs());
                    return Err(self.error(io::ErrorKind::TimedOut, &words));
                }
                thread::sleep(Duration::from_millis(1));
            };
            let died = |_| io::Error::other("a reader died");
            Ok(Output { status, stdout: stdout.join().map_err(died)?, stderr: stderr.join().map_err(died)? })
        })
    }

    /// SIGTERM; the moment right before it. See `wait_exit`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn terminate(&self) -> io::Result<Moment> {
        self.signal(libc::SIGTERM)
    }

    /// Waits for the end; the exit code, or `None` if a signal ended it.
    ///
    /// # Errors
    /// `TimedOut` when it goes on, with its last words.
    pub fn wait_exit(&mut self, within: Duration) -> io::Result<Option<i32>> {
        match self.process_mut()?.wait(within) {
            Ok(status) => Ok(status.code()),
            Err(error) => Err(self.error(error.kind(), &error.to_string())),
        }
    }

    /// SIGKILL, and reaped; the moment right before it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> io::Result<Moment> {
        self.process_mut()?.kill()
    }

    /// SIGSTOP, and waits for the threads to stand still: on another processor one may go on for a moment.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self) -> io::Result<Moment> {
        let at = self.signal(libc::SIGSTOP)?;
        let until = Instant::now() + STANDSTILL;
        let pid = self.process.as_ref().map(Process::pid);
        while !pid.is_some_and(machine::is_stopped) && Instant::now() < until {
            thread::yield_now();
        }
        Ok(at)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub fn cont(&self) -> io::Result<Moment> {
        self.signal(libc::SIGCONT)
    }

    /// Stops one of its threads as if it hung; the moment right before.
    ///
    /// # Errors
    /// When it does not run or has no such thread.
    pub fn hang(&mut self, thread: &str) -> io::Result<Moment> {
        let pid = self.pid().ok_or_else(|| self.error(io::ErrorKind::NotFound, "does not run"))?;
        let (hung, at) = hang::hang(pid, thread)?;
        self.hung = Some(hung);
        Ok(at)
    }

    /// Lets the thread go on that `hang` stopped; the moment right before.
    ///
    /// # Errors
    /// When none is stopped.
    pub fn release(&mut self) -> io::Result<Moment> {
        let at = Moment::now();
        let hung = self.hung.take();
        hung.map(|_| at).ok_or_else(|| self.error(io::ErrorKind::NotFound, "no thread was stopped"))
    }

    /// The last lines of the log.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        self.process.as_ref().map_or_else(String::new, |process| process.tail(lines))
    }

    fn signal(&self, signal: i32) -> io::Result<Moment> {
        match &self.process {
            Some(process) => process.signal(signal),
            None => Err(self.error(io::ErrorKind::NotFound, "was never started")),
        }
    }

    fn process_mut(&mut self) -> io::Result<&mut Process> {
        let name = self.namespace.name();
        self.process.as_mut().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("edgeproxy in {name} was never started"))
        })
    }

    fn error(&self, kind: io::ErrorKind, words: &str) -> io::Error {
        let tail = self.tail(20);
        let log = if tail.is_empty() { String::new() } else { format!("\nits last words:\n{tail}") };
        io::Error::new(kind, format!("edgeproxy in {}: {words}{log}", self.namespace.name()))
    }
}

/// Everything that a pipe brings; what was read until an error is better than nothing.
fn drain(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}
