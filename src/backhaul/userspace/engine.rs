//! All tunnels of this POP: packets in, datagrams out, and back. It is told the time and owns no socket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::arena::Arena;
use super::train::{Trains, Way};
use crate::backhaul::allowed_ips::AllowedIps;
use crate::backhaul::icmp::{self, Refusal};
use crate::backhaul::limit::Limits;
use crate::backhaul::mesh::{self, Change};
use crate::backhaul::offload::Offload;
use crate::backhaul::plane::{Endpoint, Keys, Name, PeerReport, PeerWanted, Report, Wanted};
use crate::backhaul::segment::Segments;
use crate::backhaul::tunnel::{
    Door, HANDSHAKE, Index, Indexes, OVERHEAD, Opened, PublicKey, Reason, Sealed, Sorted, Tunnel,
    TunnelConfig,
};

/// Answers to packets that cannot be carried, per second.
const ANSWERS: u32 = 100;
/// ECN: congestion was experienced, and the sender knows nothing of ECN (RFC 3168 §5).
const CE: u8 = 3;
const NOT_ECT: u8 = 0;

/// Where a datagram came from and to.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub from: SocketAddr,
    pub local: Option<IpAddr>,
    pub ecn: u8,
}

/// The tunnels.
pub struct Engine {
    keys: Keys,
    /// Our own address inside, from which packets are answered that cannot be carried.
    node: Ipv6Addr,
    have: Wanted,
    peers: Vec<Option<Peer>>,
    names: BTreeMap<Name, usize>,
    allowed: AllowedIps<usize>,
    by_key: HashMap<PublicKey, usize>,
    indexes: Indexes<usize>,
    /// Addresses of peers, as of the last tick: they have no bucket at the door.
    known: BTreeSet<IpAddr>,
    door: Door,
    now: Instant,
    answers: u32,
    cookie_seen: Option<(u64, Instant)>,
    unreachable: u64,
    too_big: u64,
}

struct Peer {
    tunnel: Tunnel,
    index: Index,
    endpoint: Option<Endpoint>,
    local: Option<IpAddr>,
    mtu: usize,
}

impl Engine {
    #[must_use]
    pub fn new(keys: Keys, node: Ipv6Addr, now: Instant) -> Self {
        Self {
            door: Door::new(&keys, Limits::default(), now),
            keys,
            node,
            have: Wanted::default(),
            peers: Vec::new(),
            names: BTreeMap::new(),
            allowed: AllowedIps::default(),
            by_key: HashMap::new(),
            indexes: Indexes::default(),
            known: BTreeSet::new(),
            now,
            answers: ANSWERS,
            cookie_seen: None,
            unreachable: 0,
            too_big: 0,
        }
    }

    /// Other keys of ours, for all tunnels.
    pub fn set_keys(&mut self, keys: &Keys, now: Instant) {
        self.keys = keys.clone();
        self.door.set_keys(keys);
        for (name, slot) in &self.names {
            if let (Some(peer), Some(wanted)) = (self.peers[*slot].as_mut(), self.have.peers.get(name)) {
                peer.tunnel.set_keys(keys.clone(), wanted.keys.clone(), now);
            }
        }
    }

    /// Makes the peers what is wanted. `random` gives receiver indexes that nobody outside can guess.
    pub fn set(&mut self, wanted: &Wanted, mut random: impl FnMut() -> u32, now: Instant) {
        for change in mesh::changes(&self.have, wanted) {
            match change {
                Change::Remove(name) => self.remove(&name),
                Change::Add(name, peer) => self.add(name, &peer, random(), now),
                Change::Update(name, peer) => self.update(name, &peer, random(), now),
            }
        }
        self.have = wanted.clone();
        self.route();
    }

    fn add(&mut self, name: Name, wanted: &PeerWanted, random: u32, now: Instant) {
        let slot = self.peers.iter().position(Option::is_none).unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        // Four million of them: the configuration ends at a thousand peers.
        let Some(index) = self.indexes.add(random, slot) else { return };
        let config = TunnelConfig {
            ours: self.keys.clone(),
            theirs: wanted.keys.clone(),
            preshared: wanted.preshared,
            keepalive: wanted.keepalive.map(|time| time.as_secs().clamp(1, 65_535) as u16),
            index,
            mtu: usize::from(wanted.mtu),
        };
        let mut tunnel = Tunnel::new(config, now);
        tunnel.set_endpoint(wanted.endpoint.map(|endpoint| endpoint.address));
        let mtu = usize::from(wanted.mtu);
        self.peers[slot] = Some(Peer { tunnel, index, endpoint: wanted.endpoint, local: None, mtu });
        self.names.insert(name, slot);
    }

    fn update(&mut self, name: Name, wanted: &PeerWanted, random: u32, now: Instant) {
        let before = self.have.peers.get(&name);
        let same_secrets = before.is_some_and(|before| {
            before.preshared == wanted.preshared && before.keepalive == wanted.keepalive
        });
        let found = self.names.get(&name).and_then(|slot| self.peers[*slot].as_mut());
        let Some(peer) = found.filter(|_| same_secrets) else {
            // Another secret is another tunnel.
            self.remove(&name);
            return self.add(name, wanted, random, now);
        };
        if before.is_none_or(|before| before.keys != wanted.keys) {
            peer.tunnel.set_keys(self.keys.clone(), wanted.keys.clone(), now);
        }
        if peer.endpoint != wanted.endpoint {
            peer.endpoint = wanted.endpoint;
            peer.local = None;
            peer.tunnel.set_endpoint(wanted.endpoint.map(|endpoint| endpoint.address));
            peer.tunnel.hurry();
        }
        peer.mtu = usize::from(wanted.mtu);
        peer.tunnel.set_mtu(peer.mtu);
    }

    fn remove(&mut self, name: &Name) {
        if let Some(peer) = self.names.remove(name).and_then(|slot| self.peers[slot].take()) {
            self.indexes.remove(peer.index);
        }
    }

    /// The tables that lead to peers, made anew from what is wanted.
    fn route(&mut self) {
        let slot = |name: &Name| self.names.get(name).copied();
        self.allowed = AllowedIps::new(
            self.have.peers.iter().filter_map(|(name, peer)| Some((peer.allowed, slot(name)?))),
        );
        self.by_key.clear();
        for (name, peer) in &self.have.peers {
            let Some(slot) = self.names.get(name) else { continue };
            for key in std::iter::once(&peer.keys.present).chain(&peer.keys.next) {
                self.by_key.insert(*key, *slot);
            }
        }
    }

    /// A packet that the interface gave, with what is left to do for it. What it becomes goes to `trains`; an answer
    /// to its sender goes to `arena`.
    pub fn outbound(&mut self, offload: Offload, packet: &mut [u8], trains: &mut Trains, arena: &mut Arena) {
        let Some((target, ecn)) = head(packet) else { return };
        let Some(slot) = self.allowed.find(target) else {
            self.unreachable += 1;
            return self.refuse(Refusal::NoRoute, packet, arena);
        };
        let Some(peer) = self.peers[slot].as_mut() else { return };
        let Ok(mut segments) = Segments::new(offload, packet, peer.mtu) else { return };
        if segments.longest() > peer.mtu {
            self.too_big += 1;
            let mtu = peer.mtu as u16;
            return self.refuse(Refusal::TooBig { mtu }, packet, arena);
        }
        while let Some(segment) = segments.next() {
            let needed = (segment.len().next_multiple_of(16) + OVERHEAD).max(HANDSHAKE);
            match peer.tunnel.seal(segment, trains.room(needed)) {
                Sealed::Data(datagram) => {
                    let length = datagram.len();
                    peer.send(length, ecn, trains);
                }
                Sealed::Handshake(datagram) => {
                    let length = datagram.len();
                    peer.send(length, 0, trains);
                }
                Sealed::Queued | Sealed::Dropped(_) => {}
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal, packet: &[u8], arena: &mut Arena) {
        if self.answers == 0 || arena.is_full() {
            return;
        }
        let mut out = [0; icmp::MOST];
        if let Some(length) = icmp::answer(refusal, packet, self.node, &mut out) {
            self.answers -= 1;
            arena.room()[..length].copy_from_slice(&out[..length]);
            arena.keep(length);
        }
    }

    /// A datagram from outside. The packet in it goes to `arena`, answers go to `trains`.
    pub fn inbound(&mut self, datagram: &[u8], arrival: Arrival, arena: &mut Arena, trains: &mut Trains) {
        let back = Way::new(arrival.from, arrival.local);
        let mut reply = [0; 64];
        let known = |address: IpAddr| self.known.contains(&address);
        let slot = match self.door.sort(datagram, arrival.from, known, self.now, &mut reply) {
            Sorted::Receiver(index) => self.indexes.find(index).ok_or(Reason::UnknownIndex),
            Sorted::Initiation(key) => self.by_key.get(&key).copied().ok_or(Reason::UnknownPeer),
            Sorted::Reply(reply) => return trains.push_copy(reply, back),
            Sorted::Refused(_) => return,
        };
        let peer = match slot.map(|slot| (slot, self.peers[slot].as_mut())) {
            Ok((slot, Some(peer))) => (slot, peer),
            Ok((_, None)) => return,
            Err(reason) => return self.door.drops.count(reason),
        };
        let (slot, peer) = peer;
        let allowed = |source: IpAddr| match source {
            IpAddr::V6(source) => self.allowed.find(source) == Some(slot),
            IpAddr::V4(_) => false,
        };
        match peer.tunnel.open(datagram, Some(arrival.from), arena.room(), allowed) {
            Opened::Packet(packet) => {
                let length = packet.len();
                peer.local = arrival.local;
                if mark(&mut arena.room()[..length], arrival.ecn) {
                    arena.keep(length);
                }
            }
            Opened::Reply(reply) => trains.push_copy(reply, back),
            Opened::Nothing | Opened::Refused(_) => {}
        }
        while peer.tunnel.is_waiting() {
            let needed = peer.mtu.next_multiple_of(16) + OVERHEAD;
            let sealed = peer.tunnel.open(&[], None, trains.room(needed.max(HANDSHAKE)), |_| true);
            let Opened::Reply(sealed) = sealed else { break };
            let length = sealed.len();
            peer.send(length, 0, trains);
        }
    }

    /// Time has passed, 250 ms at most.
    pub fn tick(&mut self, now: Instant, trains: &mut Trains) {
        let passed = now.saturating_duration_since(self.now);
        self.now = self.now.max(now);
        let earned = passed.min(Duration::from_secs(1)).as_millis() as u32 * ANSWERS / 1000;
        self.answers = (self.answers + earned).min(ANSWERS);
        self.known.clear();
        for peer in self.peers.iter_mut().flatten() {
            self.known.extend(peer.tunnel.endpoint().map(|endpoint| endpoint.ip().to_canonical()));
            // One datagram for each packet that waits, and a few of the timers'.
            for _ in 0..300 {
                let room = trains.room((peer.mtu.next_multiple_of(16) + OVERHEAD).max(HANDSHAKE));
                let Some(datagram) = peer.tunnel.tick(now, room) else { break };
                let length = datagram.len();
                peer.send(length, 0, trains);
            }
        }
        if self.cookie_seen.is_none_or(|(count, _)| count != self.door.cookies) && self.door.cookies > 0 {
            self.cookie_seen = Some((self.door.cookies, now));
        }
    }

    /// What has become of everything.
    #[must_use]
    pub fn report(&self) -> Report {
        let under_load = self
            .cookie_seen
            .is_some_and(|(_, seen)| self.now.saturating_duration_since(seen) < Duration::from_secs(5));
        let peers = self.names.iter().filter_map(|(name, slot)| {
            let peer = self.peers[*slot].as_ref()?;
            let counters = peer.tunnel.counters();
            let report = PeerReport {
                endpoint: peer.tunnel.endpoint(),
                local: peer.local,
                last_handshake: counters.last_handshake,
                rx_packets: counters.rx_packets,
                rx_octets: counters.rx_octets,
                tx_packets: counters.tx_packets,
                tx_octets: counters.tx_octets,
                handshakes_failed: counters.handshakes_failed,
                drops: counters.drops,
            };
            Some((name.clone(), report))
        });
        Report {
            drops: self.door.drops,
            cookies: self.door.cookies,
            under_load,
            unreachable: self.unreachable,
            too_big: self.too_big,
            peers: peers.collect(),
            ..Report::default()
        }
    }
}

impl Peer {
    /// The first octets of the trains' room are a datagram for this peer. Without an endpoint it is lost.
    fn send(&self, length: usize, ecn: u8, trains: &mut Trains) {
        if let Some(to) = self.tunnel.endpoint() {
            trains.push(length, Way { to, from: self.local, ecn });
        }
    }
}

/// Where an IPv6 packet goes, and its ECN bits.
fn head(packet: &[u8]) -> Option<(Ipv6Addr, u8)> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let target: &[u8; 16] = header[24..].first_chunk()?;
    (header[0] >> 4 == 6).then(|| (Ipv6Addr::from(*target), header[1] >> 4 & 3))
}

/// RFC 6040 §4.2: congestion outside is told inside. False: the packet must be dropped, its sender would not hear.
fn mark(packet: &mut [u8], outside: u8) -> bool {
    let inside = packet[1] >> 4 & 3;
    if outside != CE || inside == CE {
        return true;
    }
    packet[1] |= CE << 4;
    inside != NOT_ECT
}
