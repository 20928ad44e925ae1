//! The proxies that are compared, each with one worker, configured as well as its manual allows.

pub mod copy;
pub mod edgeproxy;
pub mod envoy;
pub mod haproxy;
pub mod nginx;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::backend;
use super::certificate::Certificate;
use super::frame::Ask;
use super::link::{Link, Target};
use crate::edgeproxy::EdgeProxy;
use crate::namespace::Namespace;
use crate::process::Process;

/// How long a proxy may take until it serves; ours first proves its backend healthy.
const START: Duration = Duration::from_secs(20);

/// A proxy. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    EdgeProxy,
    HaproxySplice,
    HaproxyNosplice,
    Nginx,
    Envoy,
    Copy,
}

impl Peer {
    pub const ALL: [Peer; 6] =
        [Self::EdgeProxy, Self::HaproxySplice, Self::HaproxyNosplice, Self::Nginx, Self::Envoy, Self::Copy];

    /// Its word in figures and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::EdgeProxy => "edgeproxy",
            Self::HaproxySplice => "haproxy_splice",
            Self::HaproxyNosplice => "haproxy_nosplice",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Copy => "copy",
        }
    }

    /// The peer of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.word() == word)
    }

    /// Whether it is a HAProxy, with or without splice.
    #[must_use]
    pub fn is_haproxy(self) -> bool {
        matches!(self, Self::HaproxySplice | Self::HaproxyNosplice)
    }

    /// What to run, and which version it is.
    ///
    /// # Errors
    /// Why it cannot take part, in words.
    pub fn find(self) -> Result<Found, String> {
        match self {
            Self::EdgeProxy => edgeproxy::find(),
            Self::HaproxySplice | Self::HaproxyNosplice => haproxy::find(),
            Self::Nginx => nginx::find(),
            Self::Envoy => envoy::find(),
            Self::Copy => copy::find(),
        }
    }

    /// Each has ports of its own: what one run leaves in TIME_WAIT is nothing to the next peer.
    fn ports(self) -> (u16, u16) {
        let place = self as u16;
        (7100 + place, 7200 + place)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A peer that can take part.
#[derive(Debug, Clone)]
pub struct Found {
    pub program: PathBuf,
    pub version: String,
}

/// What a peer is told.
#[derive(Debug, Clone)]
pub struct Setting {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    pub backend: SocketAddr,
    pub certificate: Certificate,
    /// For its files; made if missing.
    pub work: PathBuf,
}

impl Setting {
    /// The setting of a peer: addresses, ports, files.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn of(peer: Peer, certificate: &Certificate, work: &Path) -> io::Result<Self> {
        let work = work.join(peer.word());
        std::fs::create_dir_all(&work)?;
        // Ours brings its anycast address with it.
        let address = match peer {
            Peer::EdgeProxy => edgeproxy::ADDRESS,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let (plain, tls) = peer.ports();
        // A backend address for each, for the same reason as the ports.
        let backend = SocketAddr::from(([127, 0, 1, peer as u8 + 1], backend::PORT));
        let (plain, tls) = (SocketAddr::new(address, plain), SocketAddr::new(address, tls));
        Ok(Self { plain, tls, backend, certificate: certificate.clone(), work })
    }
}

/// A peer that serves. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    held: Held,
    pub setting: Setting,
}

#[derive(Debug)]
enum Held {
    Process(Process),
    EdgeProxy(Box<EdgeProxy>),
}

impl Running {
    /// Starts it and waits until an exchange through it works. It, and all that it starts, runs where the
    /// calling thread may run, and dies with that thread.
    ///
    /// # Errors
    /// When it does not start or serve, with its last words.
    pub fn start(peer: Peer, found: &Found, setting: &Setting, namespace: &Namespace) -> io::Result<Self> {
        let held = match peer {
            Peer::EdgeProxy => Held::EdgeProxy(Box::new(edgeproxy::start(setting, namespace)?)),
            _ => {
                let arguments = match peer {
                    Peer::HaproxySplice => haproxy::prepare(setting, true)?,
                    Peer::HaproxyNosplice => haproxy::prepare(setting, false)?,
                    Peer::Nginx => nginx::prepare(setting)?,
                    Peer::Envoy => envoy::prepare(setting)?,
                    Peer::Copy | Peer::EdgeProxy => copy::arguments(setting),
                };
                let mut command = namespace.command(&found.program);
                command.args(arguments).current_dir(&setting.work).stdin(Stdio::null());
                Held::Process(Process::start(peer.word(), command, &setting.work.join("log"))?)
            }
        };
        let mut running = Self { held, setting: setting.clone() };
        running.wait(namespace)?;
        Ok(running)
    }

    /// Its first process.
    #[must_use]
    pub fn pid(&mut self) -> u32 {
        match &mut self.held {
            Held::Process(process) => process.pid(),
            Held::EdgeProxy(edgeproxy) => edgeproxy.pid().unwrap_or(0),
        }
    }

    /// Its last words.
    #[must_use]
    pub fn tail(&self) -> String {
        match &self.held {
            Held::Process(process) => process.tail(8),
            Held::EdgeProxy(edgeproxy) => edgeproxy.tail(8),
        }
    }

    fn wait(&mut self, namespace: &Namespace) -> io::Result<()> {
        let target = Target { address: self.setting.plain, tls: None };
        let deadline = Instant::now() + START;
        loop {
            let exchange = || Link::dial(&target)?.exchange(&Ask::Keep.frame(1), Duration::from_millis(500));
            let Err(error) = namespace.run(exchange)? else { return Ok(()) };
            let ended = match &mut self.held {
                Held::Process(process) => !process.is_running(),
                Held::EdgeProxy(edgeproxy) => edgeproxy.pid().is_none(),
            };
            if ended || Instant::now() >= deadline {
                let what = if ended { "ended at once" } else { "does not serve" };
                return Err(io::Error::other(format!("{what}: {error}\n{}", self.tail())));
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A program of a Debian package and the package's version.
fn packaged(program: &str, package: &str) -> Result<Found, String> {
    let told = || format!("install Debian's {package}: apt-get install {package}");
    let path = Path::new(program);
    if !path.is_file() {
        return Err(told());
    }
    let output = Command::new("dpkg-query").args(["-W", "-f=${Version}", package]).output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let version = version.ok().filter(|version| !version.is_empty()).ok_or_else(told)?;
    Ok(Found { program: path.to_owned(), version })
}
