//! The data plane in the kernel: what is wanted is told to its WireGuard, and what it counts is told on.
#![expect(
    clippy::disallowed_methods,
    reason = "driver: the clock and the netlink socket of the kernel's WireGuard"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::BackhaulError;
use super::mesh::{self, Change};
use super::plane::{Keys, Kind, Name, PeerReport, PeerWanted, Report, Wanted};
use super::tunnel::PublicKey;
use crate::supervise::task::Task;
use crate::sys::wireguard::{Device, PeerChange, PeerState};

const LOOK: Duration = Duration::from_millis(500);

/// The running plane.
pub struct Kernel {
    device: Device,
    /// Moves netlink's messages.
    _moves: Task<()>,
    listen: u16,
    have: Wanted,
    /// Peers that have moved to their next key: the route is theirs.
    moved: BTreeMap<Name, PublicKey>,
    keys: watch::Receiver<Arc<Keys>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    report: watch::Sender<Arc<Report>>,
}

impl Kernel {
    /// Makes the interface and opens the port.
    ///
    /// # Errors
    /// [`BackhaulError::NoKernel`] if this kernel has no WireGuard; otherwise its words.
    pub async fn open(
        interface: &str,
        listen: u16,
        mut keys: watch::Receiver<Arc<Keys>>,
        wanted: watch::Receiver<Arc<Wanted>>,
        report: watch::Sender<Arc<Report>>,
    ) -> Result<Self, BackhaulError> {
        let (mut device, moves) = Device::connect(interface).map_err(BackhaulError::Plane)?;
        let moves = Task::spawn("backhaul-wireguard", moves);
        device.create().await.map_err(|error| match error.kind() {
            std::io::ErrorKind::Unsupported => BackhaulError::NoKernel(error),
            _ => BackhaulError::Plane(error),
        })?;
        let first = keys.borrow_and_update().present.octets();
        device.set(first, listen).await.map_err(BackhaulError::Plane)?;
        let (have, moved) = (Wanted::default(), BTreeMap::new());
        Ok(Self { device, _moves: moves, listen, have, moved, keys, wanted, report })
    }

    /// Follows what is wanted until it is told to stop; the interface goes with it.
    ///
    /// # Errors
    /// The interface is gone.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), BackhaulError> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.set().await?;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return self.device.remove().await.map_err(BackhaulError::Interface);
                }
                _ = look.tick() => self.look().await?,
                Ok(()) = self.wanted.changed() => self.set().await?,
                Ok(()) = self.keys.changed() => {
                    let key = self.keys.borrow_and_update().present.octets();
                    self.device.set(key, self.listen).await.map_err(BackhaulError::Interface)?;
                }
            }
        }
    }

    async fn set(&mut self) -> Result<(), BackhaulError> {
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        let mut changes = Vec::new();
        for change in mesh::changes(&self.have, &wanted) {
            match change {
                Change::Remove(name) => {
                    self.moved.remove(&name);
                    changes.extend(self.have.peers.get(&name).into_iter().flat_map(gone));
                }
                Change::Add(name, peer) => changes.extend(self.of(&name, &peer, None)),
                Change::Update(name, peer) => {
                    let before = self.have.peers.get(&name);
                    let keys: Vec<_> = std::iter::once(peer.keys.present).chain(peer.keys.next).collect();
                    let dropped = before.into_iter().flat_map(gone);
                    changes.extend(dropped.filter(|change| !keys.contains(&PublicKey(change.public_key))));
                    changes.extend(self.of(&name, &peer, before));
                }
            }
        }
        self.device.set_peers(&changes).await.map_err(BackhaulError::Interface)?;
        self.have = Wanted::clone(&wanted);
        Ok(())
    }

    /// A peer of ours is one peer of the kernel for each of its keys; its prefix belongs to one of them. Its endpoint is
    /// only told when it was chosen anew, so that roaming is not undone.
    fn of(&self, name: &Name, peer: &PeerWanted, before: Option<&PeerWanted>) -> Vec<PeerChange> {
        let chosen = before.is_none_or(|before| before.endpoint != peer.endpoint);
        let owner = self
            .moved
            .get(name)
            .copied()
            .filter(|key| peer.keys.next == Some(*key))
            .unwrap_or(peer.keys.present);
        let keys = std::iter::once(peer.keys.present).chain(peer.keys.next);
        keys.map(|key| PeerChange {
            public_key: key.0,
            remove: false,
            preshared: peer.preshared,
            endpoint: peer.endpoint.filter(|_| chosen).map(|endpoint| endpoint.address),
            keepalive: peer.keepalive.map_or(0, |time| time.as_secs().clamp(1, 65_535) as u16),
            allowed: if key == owner { vec![peer.allowed] } else { Vec::new() },
        })
        .collect()
    }

    async fn look(&mut self) -> Result<(), BackhaulError> {
        let states = self.device.peers().await.map_err(BackhaulError::Interface)?;
        let states: BTreeMap<PublicKey, PeerState> =
            states.into_iter().map(|state| (PublicKey(state.public_key), state)).collect();
        let now = Instant::now();
        let mut peers = BTreeMap::new();
        let mut changes = Vec::new();
        for (name, peer) in &self.have.peers {
            let present = states.get(&peer.keys.present);
            let next = peer.keys.next.and_then(|key| states.get(&key));
            let age = |state: Option<&PeerState>| state.and_then(|state| state.last_handshake);
            // The route moves when the peer has proven its next key, and back if it was heard with the old one since.
            let moved = match (age(next), age(present)) {
                (Some(next), Some(present)) => next < present,
                (Some(_), None) => true,
                (None, _) => false,
            };
            let key = peer.keys.next.filter(|_| moved);
            if self.moved.get(name).copied() != key {
                match key {
                    Some(key) => self.moved.insert(name.clone(), key),
                    None => self.moved.remove(name),
                };
                changes.extend(self.of(name, peer, Some(peer)));
            }
            let chosen = if moved { next } else { present };
            let Some(state) = chosen else { continue };
            let sum = |read: fn(&PeerState) -> u64| present.map_or(0, read) + next.map_or(0, read);
            let report = PeerReport {
                endpoint: state
                    .endpoint
                    .map(|at| std::net::SocketAddr::new(at.ip().to_canonical(), at.port())),
                last_handshake: state.last_handshake.and_then(|age| now.checked_sub(age)),
                rx_octets: sum(|state| state.rx_octets),
                tx_octets: sum(|state| state.tx_octets),
                ..PeerReport::default()
            };
            peers.insert(name.clone(), report);
        }
        if !changes.is_empty() {
            self.device.set_peers(&changes).await.map_err(|error| {
                warn!("cannot move a peer to its next key: {error}");
                BackhaulError::Interface(error)
            })?;
        }
        self.report.send_replace(Arc::new(Report { kind: Kind::Kernel, peers, ..Report::default() }));
        Ok(())
    }
}

fn gone(peer: &PeerWanted) -> Vec<PeerChange> {
    let keys = std::iter::once(peer.keys.present).chain(peer.keys.next);
    keys.map(|key| PeerChange {
        public_key: key.0,
        remove: true,
        preshared: None,
        endpoint: None,
        keepalive: 0,
        allowed: Vec::new(),
    })
    .collect()
}
