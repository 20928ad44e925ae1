//! What every router of the lab has in common: its configuration, and the questions it answers.

mod configuration;
mod fib;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use serde::Deserialize;

pub use configuration::{Peering, RouterConfig};
pub use fib::{Resolved, mark_fib};

use crate::namespace::Namespace;
use crate::process::Process;

/// How long a router may take to answer a question.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The longest answer that is read: a full table does not fit, and no scenario asks for one.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A route as a router's BGP table shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableRoute {
    pub prefix: String,
    /// Empty for what the router originates.
    pub next_hop: String,
    pub as_path: Vec<u32>,
    pub med: Option<u32>,
    /// FRR and `GoBGP` show none for an external route unless something set it; FRR sets 0 by itself for GRACEFUL_SHUTDOWN
    /// (RFC 8326).
    pub local_pref: Option<u32>,
    /// As `65535:0`, sorted by number.
    pub communities: Vec<String>,
    /// As `64512:1:2`, sorted by number.
    pub large_communities: Vec<String>,
    /// The neighbor it came from: its configured name, or its address if nobody configured it.
    pub from: Option<String>,
    pub best: bool,
    /// Whether the kernel forwards by it.
    pub in_fib: bool,
}

/// One session of a router.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// Its configured name, or its address if nobody configured it.
    pub neighbor: String,
    pub address: String,
    /// As RFC 4271 spells it: `Established`, `Active`, `OpenSent`…
    pub state: String,
    /// The last error or reset, in the router's words; empty when there was none.
    pub info: String,
    /// Seconds since it was established.
    pub uptime_s: Option<u64>,
}

impl Session {
    /// Whether it is up.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// A real router, whichever it is.
pub trait Router: Send {
    /// The host's name.
    fn name(&self) -> &str;

    /// Writes the configuration and starts whatever does not run.
    ///
    /// # Errors
    /// When the configuration makes no sense, or a program or a file cannot be opened.
    fn start(&mut self) -> io::Result<()>;

    /// The process that speaks BGP.
    ///
    /// # Errors
    /// Before the first start.
    fn process_mut(&mut self) -> io::Result<&mut Process>;

    /// The BGP table, or what it holds for exactly this prefix; an address asks for its longest match.
    ///
    /// # Errors
    /// When the router does not answer within [`DEADLINE`], or not what is understood.
    fn routes(&self, prefix: Option<&str>) -> io::Result<Vec<TableRoute>>;

    /// All configured sessions, in no particular order.
    ///
    /// # Errors
    /// As [`Router::routes`].
    fn sessions(&self) -> io::Result<Vec<Session>>;

    /// Whether it answers questions already.
    fn is_ready(&self) -> bool {
        self.sessions().is_ok()
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// `TimedOut`, with what it logged last; at once when it has ended.
    fn wait_ready(&mut self, within: Duration) -> io::Result<()> {
        let until = Instant::now() + within;
        while !self.is_ready() {
            let name = self.name().to_owned();
            let process = self.process_mut()?;
            if !process.is_running() {
                return Err(io::Error::other(format!("{name} ended: {}", process.tail(5))));
            }
            if Instant::now() >= until {
                let words =
                    format!("{name} did not answer within {} ms: {}", within.as_millis(), process.tail(5));
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Which router it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Bird,
    Frr,
    Gobgp,
}

/// Makes a router of a kind, not yet started.
///
/// # Errors
/// As [`Site::new`] and [`RouterConfig::check`].
pub fn make(
    kind: Kind,
    namespace: &Namespace,
    dir: &Path,
    config: RouterConfig,
) -> io::Result<Box<dyn Router>> {
    Ok(match kind {
        Kind::Bird => Box::new(super::bird::Bird::new(namespace, dir, config)?),
        Kind::Frr => Box::new(super::frr::Frr::new(namespace, dir, config)?),
        Kind::Gobgp => Box::new(super::gobgp::Gobgp::new(namespace, dir, config)?),
    })
}

/// Where a router lives: its host, and a directory for its configuration, sockets and log.
#[derive(Debug, Clone)]
pub struct Site {
    pub namespace: Namespace,
    pub dir: PathBuf,
}

impl Site {
    /// Makes the directory.
    ///
    /// # Errors
    /// When it cannot be made, lies under `/run` (which every process of the lab has for itself) or is too long for the
    /// address of a Unix socket.
    pub fn new(namespace: &Namespace, dir: &Path) -> io::Result<Self> {
        if dir.starts_with("/run") || dir.starts_with("/var/run") {
            return Err(invalid(format!(
                "{}: /run is another one for every process of the lab",
                dir.display()
            )));
        }
        if dir.as_os_str().len() > 88 {
            return Err(invalid(format!("{}: too long to hold sockets", dir.display())));
        }
        std::fs::create_dir_all(dir).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make {}: {error}", dir.display()))
        })?;
        Ok(Self { namespace: namespace.clone(), dir: dir.to_owned() })
    }

    /// Writes a file into the directory and answers its path.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, file: &str, content: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(file);
        std::fs::write(&path, content).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(path)
    }
}

/// Runs a short command and answers what it printed.
///
/// # Errors
/// `TimedOut` after [`DEADLINE`]; what it said on its standard error when it failed.
pub fn ask(mut command: Command) -> io::Result<String> {
    let program = command.get_program().display().to_string();
    let asked = command.get_args().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" ");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + DEADLINE;
    let (out, error) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let out = scope.spawn(|| read_all(out));
        let error = scope.spawn(|| read_all(error));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= until {
                child.kill()?;
                child.wait()?;
                let words = format!("{program} {asked}: no answer within {} ms", DEADLINE.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            thread::sleep(Duration::from_millis(1));
        };
        let out = out.join().unwrap_or_default();
        let error = error.join().unwrap_or_default();
        if status.success() {
            return Ok(out);
        }
        let said = if error.trim().is_empty() { out.trim() } else { error.trim() };
        Err(io::Error::other(format!("{program} {asked}: {said}")))
    })
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before an error is still worth showing.
        let _ = pipe.take(LONGEST_ANSWER).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A prefix with its length and without host bits; text that is none stays what it is.
#[must_use]
pub fn canonical(text: &str) -> String {
    IpNetwork::from_str(text)
        .map_or_else(|_| text.to_owned(), |it| format!("{}/{}", it.network(), it.prefix()))
}

/// Sorts `65535:0`-like texts by number.
pub(crate) fn sorted(mut communities: Vec<String>) -> Vec<String> {
    communities.sort_by_key(|text| {
        text.split(':').map(|part| part.parse::<u64>().unwrap_or(u64::MAX)).collect::<Vec<_>>()
    });
    communities
}

pub(crate) fn invalid(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, words)
}

pub(crate) fn misunderstood(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_a_deadline() {
        let mut slow = Command::new("sleep");
        slow.arg("30");
        let began = Instant::now();
        assert_eq!(ask(slow).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < DEADLINE * 3);
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo why >&2; exit 1"]);
        assert!(ask(failing).unwrap_err().to_string().ends_with("why"));
    }
}
