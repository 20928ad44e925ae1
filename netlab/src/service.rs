//! A service of a host that can be killed, stopped, slowed, made to refuse or to answer 500: what health checks look at.
//!
//! A process of its own, so that its end is a real one. Orders are synchronous: when a method
//! returns, the service does as told.

pub mod child;
pub mod http;
pub mod order;
pub mod server;

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::binary;
use crate::moment::Moment;
use crate::namespace::Namespace;
use crate::process::Process;
use order::Order;

/// How long a service may take to do as told.
const OBEY: Duration = Duration::from_secs(2);
/// How long it may take to start; both cores may be busy.
const START: Duration = Duration::from_secs(10);

/// What kind of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// HTTP/1.1: 200 and its name to every request, on as many connections as there are.
    Http,
    /// Accepts and holds; sends back what it reads.
    Tcp,
    /// Answers the lab's datagrams with its name (`traffic::EchoServer`).
    UdpEcho,
}

/// A service as a topology names it. Addresses need not exist when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    pub kind: Kind,
    /// What it answers with; also the name of its log.
    pub name: String,
    /// At least one, each with a port.
    pub listen: Vec<SocketAddr>,
}

/// A service and its process. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    namespace: Namespace,
    config: ServiceConfig,
    log: PathBuf,
    process: Process,
    control: BufReader<UnixStream>,
    /// Of the last order. A stopped service acknowledges late, when nobody waits for it any more.
    number: u64,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::UdpEcho => "udp-echo",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [Self::Http, Self::Tcp, Self::UdpEcho].into_iter().find(|kind| kind.word() == word)
    }
}

impl Service {
    /// Starts it inside a host, and returns once it listens. Its log is `NAME.log` in `work_dir`. It
    /// dies with the thread that called.
    ///
    /// # Errors
    /// When it cannot be started or cannot listen, with its own words.
    pub fn start(namespace: &Namespace, config: &ServiceConfig, work_dir: &Path) -> io::Result<Self> {
        let log = work_dir.join(format!("{}.log", config.name));
        let (process, control) = launch(namespace, config, &log)?;
        Ok(Self { namespace: namespace.clone(), config: config.clone(), log, process, control, number: 0 })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &ServiceConfig {
        &self.config
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether the process exists; a stopped one does.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// SIGKILL, and reaped; the answer is the moment right before it.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> io::Result<Moment> {
        self.process.kill()
    }

    /// SIGSTOP. The kernel goes on accepting connections on its behalf.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn stop(&mut self) -> io::Result<Moment> {
        self.process.signal(libc::SIGSTOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn cont(&mut self) -> io::Result<Moment> {
        self.process.signal(libc::SIGCONT)
    }

    /// Starts it afresh, killing what still runs: it forgets all orders. The answer is the moment
    /// right before the new process was started.
    ///
    /// # Errors
    /// As `start`.
    pub fn restart(&mut self) -> io::Result<Moment> {
        if self.is_running() {
            self.kill()?;
        }
        let at = Moment::now();
        self.number = 0;
        (self.process, self.control) = launch(&self.namespace, &self.config, &self.log)?;
        Ok(at)
    }

    /// Closes the door and every connection (new ones are refused by the kernel), or opens it again.
    /// The answer is the moment right before the order.
    ///
    /// # Errors
    /// When the service is stopped, has ended, or cannot listen again.
    pub fn refuse(&mut self, on: bool) -> io::Result<Moment> {
        self.order(Order::Refuse(on))
    }

    /// The status of every HTTP answer from now on.
    ///
    /// # Errors
    /// When the service is stopped or has ended.
    pub fn status(&mut self, status: u16) -> io::Result<Moment> {
        self.order(Order::Status(status))
    }

    /// Accepts and reads but answers nothing, or answers again; requests read meanwhile stay unanswered.
    ///
    /// # Errors
    /// When the service is stopped or has ended.
    pub fn hang(&mut self, on: bool) -> io::Result<Moment> {
        self.order(Order::Hang(on))
    }

    /// Resets whoever connects from now on, or serves again.
    ///
    /// # Errors
    /// When the service is stopped or has ended.
    pub fn cut(&mut self, on: bool) -> io::Result<Moment> {
        self.order(Order::Cut(on))
    }

    /// Answers HTTP requests this late.
    ///
    /// # Errors
    /// When the service is stopped or has ended.
    pub fn delay(&mut self, delay: Duration) -> io::Result<Moment> {
        self.order(Order::Delay(delay))
    }

    fn order(&mut self, order: Order) -> io::Result<Moment> {
        let at = Moment::now();
        self.number += 1;
        let number = self.number;
        let sent = self.control.get_ref().write_all(format!("{number} {order}\n").as_bytes());
        sent.and_then(|()| acknowledged(&mut self.control, number, OBEY)).map_err(|error| {
            let words =
                format!("{} was told `{order}`: {error}{}", self.config.name, last_words(&self.process));
            io::Error::new(error.kind(), words)
        })?;
        Ok(at)
    }
}

fn launch(
    namespace: &Namespace,
    config: &ServiceConfig,
    log: &Path,
) -> io::Result<(Process, BufReader<UnixStream>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_write_timeout(Some(OBEY))?;
    let mut command = namespace.command(binary::netlab()?);
    command.args(["internal-service", config.kind.word(), "--name", &config.name]);
    for address in &config.listen {
        command.args(["--listen", &address.to_string()]);
    }
    command.stdin(OwnedFd::from(theirs));
    let process = Process::start(&config.name, command, log)?;
    let mut control = BufReader::new(ours);
    acknowledged(&mut control, 0, START).map_err(|error| {
        let words = format!("{} did not start: {error}{}", config.name, last_words(&process));
        io::Error::new(error.kind(), words)
    })?;
    Ok((process, control))
}

/// Reads the answer to one order, and past those to earlier ones.
fn acknowledged(control: &mut BufReader<UnixStream>, number: u64, within: Duration) -> io::Result<()> {
    control.get_ref().set_read_timeout(Some(within))?;
    loop {
        let mut line = String::new();
        match control.read_line(&mut line) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let words = format!("no word within {} ms (is it stopped?)", within.as_millis());
                return Err(io::Error::new(io::ErrorKind::TimedOut, words));
            }
            Err(error) => return Err(error),
        }
        match line.trim().split_once(' ') {
            Some((of, _)) if of != number.to_string() => {}
            Some((_, "ok")) => return Ok(()),
            Some((_, words)) => return Err(io::Error::other(words.to_owned())),
            None => return Err(io::Error::other(format!("it said {line:?}"))),
        }
    }
}

fn last_words(process: &Process) -> String {
    match process.tail(5) {
        words if words.is_empty() => String::new(),
        words => format!("\n{words}"),
    }
}
