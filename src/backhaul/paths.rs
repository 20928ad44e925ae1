//! Keeps the paths to all peers: probes, relay, names, keys, the interface's addresses and routes.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: the clock, the probes' and the relay's sockets, and names"
)]

mod carry;
mod filter;
mod resolve;
mod shape;
mod tell;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::carry::Carry;
use self::resolve::Resolver;
use self::shape::Shape;
use super::BackhaulError;
use super::fabric::{Fabric, Post};
use super::news;
use super::plane::{Keys, Report, Wanted};
use super::tunnel::{Pair, PrivateKey};
use crate::catalog::backend::Verdict;
use crate::catalog::remote::{Remote, Said, Word, Words};
use crate::catalog::tunnels::{Tunnel, Tunnels};
use crate::catalog::view::{Sources, Verdicts};
use crate::config::backhaul::Backhaul;
use crate::config::key_file;
use crate::observe::status::backhaul::BackhaulStatus;

/// How often is looked at the time, and said what changed.
const LOOK: Duration = Duration::from_millis(50);
/// A look that comes later than this was held up.
const LATE: Duration = Duration::from_millis(150);
/// How often operators are told.
const TELL: Duration = Duration::from_millis(500);
/// How often the MTU of the underlay is asked for, and the interface is looked at.
const SHAPE: Duration = Duration::from_secs(10);

/// Where everything comes from and goes to.
pub struct Ends {
    pub config: watch::Receiver<Arc<Backhaul>>,
    /// Which backends are ours and which are of others.
    pub sources: watch::Receiver<Arc<Sources>>,
    pub verdicts: watch::Receiver<Arc<Verdicts>>,
    pub report: watch::Receiver<Arc<Report>>,
    pub keys: watch::Sender<Arc<Keys>>,
    pub wanted: watch::Sender<Arc<Wanted>>,
    pub said: Arc<watch::Sender<Arc<Said>>>,
    pub status: Arc<watch::Sender<Arc<BackhaulStatus>>>,
    pub tunnels: Arc<watch::Sender<Arc<Tunnels>>>,
}

/// The keys of a configuration, made if they are not there.
///
/// # Errors
/// A key cannot be had; the words say what to do.
pub fn keys(config: &Backhaul) -> Result<Keys, BackhaulError> {
    let load = |path: &Path| -> Result<PrivateKey, BackhaulError> {
        Ok(PrivateKey::new(key_file::load_or_make(path)?))
    };
    let next = config.next_private_key_file.as_deref().map(load).transpose()?;
    Ok(Pair { present: load(&config.private_key_file)?, next })
}

/// The running keeper of the paths.
pub struct Paths {
    ends: Ends,
    fabric: Fabric,
    keys: Keys,
    socket: UdpSocket,
    carry: Carry,
    resolver: Resolver,
    shape: Shape,
    /// Backends of others.
    remote: Vec<Remote>,
    /// When the time was looked at last, and until when silence means nothing.
    looked: Instant,
    deaf_until: Instant,
    /// What the packet filter lacks.
    unguarded: Option<String>,
}

impl Paths {
    /// Opens the sockets. The interface is there already.
    ///
    /// # Errors
    /// A port is taken, or the kernel refuses; the words say what to do.
    pub async fn open(mut ends: Ends, keys: Keys) -> Result<Self, BackhaulError> {
        let now = Instant::now();
        let config = Arc::clone(&ends.config.borrow_and_update());
        let mut start = [0; 4];
        let _ = SystemRandom::new().fill(&mut start);
        let shape = Shape::begin(&config).await?;
        let socket = probes(config.probe.port)?;
        let carry = Carry::open(&config, now)?;
        let fabric = Fabric::new(config, keys.clone(), u32::from_ne_bytes(start), now);
        Ok(Self {
            fabric,
            keys,
            socket,
            carry,
            resolver: Resolver::default(),
            shape,
            remote: Vec::new(),
            looked: now,
            deaf_until: now,
            unguarded: None,
            ends,
        })
    }

    /// Keeps the paths until it is told to stop.
    ///
    /// # Errors
    /// The interface is gone.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), BackhaulError> {
        let (mut look, mut tell, mut shape) = (interval(LOOK), interval(TELL), interval(SHAPE));
        for timer in [&mut look, &mut tell, &mut shape] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let mut datagram = [0; 2048];
        self.configure().await;
        self.hear();
        loop {
            if self.shape.dirty {
                self.shape.keep(&self.fabric).await?;
            }
            let due = self.fabric.next_deadline().unwrap_or_else(|| Instant::now() + TELL);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    filter::remove().await;
                    return Ok(());
                }
                () = sleep_until(due.into()) => self.post(),
                _ = look.tick() => self.look(),
                Ok(()) = self.ends.verdicts.changed() => self.hear(),
                Ok(()) = self.ends.sources.changed() => self.hear(),
                Ok(()) = self.ends.config.changed() => self.configure().await,
                (name, found) = self.resolver.next() => {
                    self.fabric.set_addresses(&name, &found, Instant::now());
                    self.shape.measure(&mut self.fabric);
                    self.look();
                }
                _ = tell.tick() => self.tell(),
                _ = shape.tick() => {
                    self.shape.measure(&mut self.fabric);
                    self.shape.keep(&self.fabric).await?;
                }
                // Last: a flood from outside must not stand before the clock.
                () = self.carry.turn(&self.fabric) => {}
                Ok((length, from)) = self.socket.recv_from(&mut datagram) => {
                    self.receive(&datagram[..length], from);
                    self.drain();
                    self.say();
                }
            }
        }
    }

    /// A new configuration, or the first.
    async fn configure(&mut self) {
        let config = Arc::clone(&self.ends.config.borrow_and_update());
        let now = Instant::now();
        match keys(&config) {
            Ok(keys) if keys != self.keys => {
                self.keys = keys;
                self.ends.keys.send_replace(Arc::new(self.keys.clone()));
            }
            Ok(_) => {}
            Err(error) => warn!("the backhaul keeps its keys: {error}"),
        }
        self.fabric.set(Arc::clone(&config), self.keys.clone(), now);
        self.carry.configure(&config);
        self.resolver.set(&config, now);
        self.unguarded = filter::set(&config).await.err().map(|error| {
            warn!("the 6PN is not guarded: {error}");
            error.to_string()
        });
        self.hear();
        self.look();
        if let Err(error) = self.shape.keep(&self.fabric).await {
            warn!("{error}");
        }
    }

    /// Takes what has come already.
    fn drain(&mut self) {
        let mut datagram = [0; 2048];
        for _ in 0..256 {
            let Ok((length, from)) = self.socket.try_recv_from(&mut datagram) else { break };
            self.receive(&datagram[..length], from);
        }
    }

    fn receive(&mut self, datagram: &[u8], from: SocketAddr) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if let Some(answer) = self.fabric.handle_datagram(datagram, from, Instant::now()) {
            self.send(from, &answer);
        }
    }

    fn post(&mut self) {
        for Post { to, octets } in self.fabric.poll(Instant::now()) {
            self.send(to, &octets);
        }
    }

    /// A probe that the kernel does not take is a probe that is lost.
    fn send(&self, to: SocketAddr, octets: &[u8]) {
        let to = match to {
            SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            v6 => v6,
        };
        let _ = self.socket.try_send_to(octets, to);
    }

    /// Looks at the time: another way, another word.
    fn look(&mut self) {
        let now = Instant::now();
        // A thread that stood still has heard nobody, perhaps with all others of this machine: before it judges their
        // silence, what they have said meanwhile is given time to come.
        if now.saturating_duration_since(self.looked) > LATE {
            self.deaf_until = now + LATE;
        }
        self.looked = now;
        self.drain();
        if now < self.deaf_until {
            return;
        }
        let report = Arc::clone(&self.ends.report.borrow_and_update());
        self.fabric.handle_report(&report, |at| self.carry.via(at));
        if self.fabric.decide(now) {
            self.carry.prepare(&self.fabric);
            let wanted = self.fabric.wanted(|name| self.carry.address(name));
            self.ends.wanted.send_replace(Arc::new(wanted));
            self.shape.touched();
        }
        self.tell_tunnels(false);
        self.say();
    }

    fn say(&self) {
        let now = Instant::now();
        if now < self.deaf_until {
            return;
        }
        let words = self.fabric.said(&self.remote, now);
        self.ends.said.send_if_modified(|before| {
            let old = before.as_of.is_none_or(|at| now.saturating_duration_since(at) > TELL);
            let changed = old || differ(&before.words, &words);
            if changed {
                *before = Arc::new(Said { as_of: Some(now), words });
            }
            changed
        });
    }

    /// How our own backends are, and which are of others.
    fn hear(&mut self) {
        let verdicts = Arc::clone(&self.ends.verdicts.borrow_and_update());
        let sources = Arc::clone(&self.ends.sources.borrow_and_update());
        let mut own = BTreeMap::new();
        self.remote.clear();
        for (name, service) in &sources.services {
            let name: Arc<str> = name.as_str().into();
            let known = verdicts.get(&name);
            for backend in &service.backends {
                let id: Arc<str> = backend.id.as_str().into();
                if let Some(pop) = &backend.pop {
                    self.remote.push(Remote::new(Arc::clone(&name), id, pop.as_str().into()));
                    continue;
                }
                let verdict = match known.and_then(|known| known.get(&id)) {
                    _ if service.check.is_off() => Verdict::Up,
                    known => known.map_or(Verdict::Unproven, |known| known.verdict),
                };
                let state = match verdict {
                    Verdict::Up if backend.drain => news::State::Draining,
                    Verdict::Up => news::State::Up,
                    Verdict::Down => news::State::Down,
                    Verdict::Unproven => news::State::Unproven,
                };
                own.insert((Arc::clone(&name), id), state);
            }
        }
        self.fabric.set_news(own, Instant::now());
        self.post();
        self.say();
    }

    /// Whoever uses tunnels hears at once that one came up or went, and now and then how far it leads.
    fn tell_tunnels(&self, exactly: bool) {
        let tunnels = tell::tunnels(&self.ends.config.borrow(), &self.fabric, Instant::now());
        let same = |(a, b): (&Tunnel, &Tunnel)| (a.node, a.up) == (b.node, b.up);
        self.ends.tunnels.send_if_modified(|before| {
            let changed = exactly
                || !before.keys().eq(tunnels.keys())
                || !before.values().zip(tunnels.values()).all(same);
            if changed {
                *before = Arc::new(tunnels);
            }
            changed
        });
    }

    fn tell(&self) {
        self.tell_tunnels(true);
        let report = self.ends.report.borrow().clone();
        let config = self.ends.config.borrow().clone();
        let mut status = tell::status(&config, &self.keys, &report, &self.fabric, Instant::now());
        status.error.clone_from(&self.unguarded);
        (status.carried, status.not_carried) = self.carry.counts();
        status.mtu = self.fabric.mtu();
        self.ends.status.send_replace(Arc::new(status));
    }
}

/// Whether somebody must hear: numbers in words that change all the time are no news.
fn differ(before: &Words, after: &Words) -> bool {
    let up = |word: &Word| *word == Word::Up;
    let same = |((key, word), (other, after))| key == other && up(word) == up(after);
    before.len() != after.len() || !before.iter().zip(after).all(same)
}

/// The socket of probes, for both families, inside and outside.
fn probes(port: u16) -> Result<UdpSocket, BackhaulError> {
    let open = || -> io::Result<UdpSocket> {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    open().map_err(|error| {
        let words = format!("cannot open UDP port {port} for the backhaul's probes: {error}; choose another backhaul.probe.port");
        BackhaulError::Plane(io::Error::new(error.kind(), words))
    })
}
