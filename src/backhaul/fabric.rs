//! All links of this POP, and what its peers say. Told the time and what came; owns no socket.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::{Link, Question, State, Way};
use super::news::{Edition, News, Reader, State as Told};
use super::plane::{Endpoint, Keys, Name, PeerWanted, Report, Wanted};
use super::probe::{self, Kind, MOST, Probe, Secrets, Side};
use super::tunnel::{Pair, PublicKey};
use crate::catalog::remote::{Remote, Word, Words};
use crate::config::backhaul::{Backhaul, Peer};
use crate::config::sixpn::Place;

/// News older than this are not believed.
const STALE: Duration = Duration::from_secs(3);
/// What fits through every IPv6 path, and what an underlay of Ethernet leaves.
const LEAST_MTU: u16 = 1280;
const USUAL_MTU: u16 = 1420;
/// What a relay takes of the MTU inside: headers of IPv6, UDP and the frame, and WireGuard's own.
const RELAYED: u16 = 40 + 8 + 4 + 32;

/// The links.
pub struct Fabric {
    config: Arc<Backhaul>,
    keys: Keys,
    members: BTreeMap<Name, Member>,
    start: u32,
    edition: u32,
    news: News,
    pages: Vec<Vec<u8>>,
    changed: bool,
}

/// One peer.
struct Member {
    peer: Peer,
    link: Link,
    secrets: Secrets,
    /// The key that the peer was last heard with.
    key: usize,
    reader: Reader,
    told: Option<(News, Instant)>,
    due: Instant,
    /// Of the path outside, without what is around a packet there.
    mtu: u16,
    relays: Vec<Name>,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub to: SocketAddr,
    pub octets: Vec<u8>,
}

/// What operators see of one link.
#[derive(Debug, Clone)]
pub struct View<'f> {
    pub peer: &'f Peer,
    pub link: &'f Link,
    pub state: State,
    /// How long ago it told its news.
    pub told: Option<Duration>,
    pub mtu: u16,
}

impl Fabric {
    /// `start`: a number that no other start of this process had.
    #[must_use]
    pub fn new(config: Arc<Backhaul>, keys: Keys, start: u32, now: Instant) -> Self {
        let mut fabric = Self {
            config: Arc::clone(&config),
            keys: keys.clone(),
            members: BTreeMap::new(),
            start,
            edition: 0,
            news: News::default(),
            pages: Vec::new(),
            changed: true,
        };
        fabric.publish();
        fabric.set(config, keys, now);
        fabric
    }

    /// Takes a new configuration and keys. Links of peers that stay where they are keep what they know.
    pub fn set(&mut self, config: Arc<Backhaul>, keys: Keys, now: Instant) {
        let mut before = std::mem::take(&mut self.members);
        for (position, peer) in config.peers.iter().enumerate() {
            let name = Name::from(peer.pop.as_str());
            let secrets = Secrets::new(&keys, &public(peer));
            let kept = before.remove(&name).filter(|member| member.peer.place == peer.place);
            let member = match kept {
                Some(member) => Member { peer: peer.clone(), secrets, key: 0, ..member },
                None => Member {
                    peer: peer.clone(),
                    link: Link::new(now),
                    secrets,
                    key: 0,
                    reader: Reader::default(),
                    told: None,
                    // Not all in the same moment.
                    due: now + self.interval() / 16 * (position % 16) as u32,
                    mtu: USUAL_MTU,
                    relays: Vec::new(),
                },
            };
            self.members.insert(name, member);
        }
        (self.config, self.keys) = (config, keys);
        self.changed = true;
    }

    /// The addresses of a peer, resolved, the best first.
    pub fn set_addresses(&mut self, name: &str, addresses: &[SocketAddr], now: Instant) {
        if let Some(member) = self.members.get_mut(name) {
            let turn = member.link.turn();
            member.link.set_addresses(addresses, now);
            self.changed |= member.link.turn() != turn;
        }
    }

    /// What the path to a peer takes, in octets of packets inside.
    pub fn set_mtu(&mut self, name: &str, mtu: u16) {
        if let Some(member) = self.members.get_mut(name)
            && member.mtu != mtu
        {
            member.mtu = mtu;
            self.changed = true;
        }
    }

    /// How our own backends are. Told at once if it is new.
    pub fn set_news(&mut self, backends: BTreeMap<(Arc<str>, Arc<str>), Told>, now: Instant) {
        if backends != self.news.backends {
            self.news.backends = backends;
            self.publish();
            for member in self.members.values_mut() {
                member.due = member.due.min(now);
            }
        }
    }

    fn publish(&mut self) {
        self.edition += 1;
        self.pages = self.news.pages(Edition { start: self.start, number: self.edition });
    }

    /// The time between two questions to one peer: as configured, or so that all of them together are two thousand a second.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let all = Duration::from_millis(self.config.peers.len() as u64);
        self.config.probe.interval.max(all)
    }

    /// When there is something to send or to decide.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.members.values().map(|member| member.due).min()
    }

    /// What is due: questions, and news with them.
    pub fn poll(&mut self, now: Instant) -> Vec<Post> {
        let interval = self.interval();
        let (ours, port) = (self.config.place, self.config.probe.port);
        let mut posts = Vec::new();
        for member in self.members.values_mut().filter(|member| member.due <= now) {
            // A thread that stood still does not catch up.
            member.due = (member.due + interval).max(now + interval / 2);
            let to = member.peer.place;
            let inside = SocketAddr::new(self.config.fleet.node(to).into(), port);
            let silent = member.link.silence(now) > interval * 2;
            let key = |number: u64| match silent {
                true => number as usize % member.secrets.count().max(1),
                false => member.key,
            };
            let mut write = |kind, side, number, body: &[u8], to_address| {
                let mut out = [0; MOST];
                let probe = Probe { kind, side, from: ours, to, number, body };
                let length = probe.write(&member.secrets, key(number), &mut out);
                posts.push(Post { to: to_address, octets: out[..length].to_vec() });
            };
            for question in member.link.ask(now) {
                match question {
                    Question::Inside(number) => {
                        write(Kind::Question, Side::Inside, number, &[], inside);
                        for page in &self.pages {
                            write(Kind::News, Side::Inside, number, page, inside);
                        }
                    }
                    Question::Outside(at, number) => {
                        write(Kind::Question, Side::Outside, number, &[], SocketAddr::new(at.ip(), port));
                    }
                }
            }
        }
        posts
    }

    /// A datagram of the probes' port. Some: an answer to send back to where it came from.
    pub fn handle_datagram(&mut self, octets: &[u8], from: SocketAddr, now: Instant) -> Option<Vec<u8>> {
        let place = probe::sender(octets)?;
        let config = &self.config;
        let member = self.members.values_mut().find(|member| member.peer.place == place)?;
        let (probe, key) = probe::read(octets, config.place, &member.secrets)?;
        // What says that it came through the tunnel did, or it would not have this source.
        let node = config.fleet.node(place);
        if (probe.side == Side::Inside) != (from.ip() == IpAddr::V6(node)) {
            return None;
        }
        member.key = key;
        match (probe.kind, probe.side) {
            (Kind::Question, side) => {
                let answer =
                    Probe { kind: Kind::Answer, side, from: config.place, to: place, body: &[], ..probe };
                let mut out = [0; MOST];
                let length = answer.write(&member.secrets, key, &mut out);
                (length <= octets.len()).then(|| out[..length].to_vec())
            }
            (Kind::Answer, Side::Inside) => {
                member.link.handle_inside(probe.number, now);
                None
            }
            (Kind::Answer, Side::Outside) => {
                member.link.handle_outside(from, probe.number, now);
                None
            }
            (Kind::News, Side::Inside) => {
                if let Some(news) = member.reader.handle_page(probe.body) {
                    member.told = Some((news, now));
                }
                None
            }
            (Kind::News, Side::Outside) => None,
        }
    }

    /// Where the plane really sends. `relay`: through whom, if an address is one of the relay's sockets.
    pub fn handle_report(&mut self, report: &Report, relay: impl Fn(SocketAddr) -> Option<Name>) {
        for (name, peer) in &report.peers {
            if let (Some(member), Some(to)) = (self.members.get_mut(name), peer.endpoint) {
                member.link.handle_roaming(to, relay(to));
            }
        }
    }

    /// Looks at the time. True: what is wanted of the plane has changed.
    pub fn decide(&mut self, now: Instant) -> bool {
        let (interval, timeout) = (self.interval(), self.config.probe.timeout);
        let mut reached = BTreeMap::new();
        for member in self.members.values() {
            let direct = matches!(member.link.way(), Way::Direct(_));
            let up = member.link.state(interval, now) == State::Up;
            if let Some(rtt) = member.link.inside().rtt.filter(|_| direct && up && self.config.relay) {
                // To the millisecond: it is told anew with every change.
                reached.insert(member.peer.place, Duration::from_millis(rtt.as_millis() as u64 / 4 * 4));
            }
        }
        if reached.keys().ne(self.news.reached.keys()) {
            self.news.reached = reached;
            self.publish();
        }
        let relays: BTreeMap<Name, Vec<Name>> =
            self.members.keys().map(|name| (name.clone(), self.relays(name, now))).collect();
        for (name, member) in &mut self.members {
            member.relays = relays.get(name).cloned().unwrap_or_default();
            self.changed |= member.link.decide(interval, timeout, &member.relays, now);
        }
        std::mem::take(&mut self.changed)
    }

    /// Peers that we reach and that say they reach `target`, the shortest way first.
    fn relays(&self, target: &Name, now: Instant) -> Vec<Name> {
        let Some(place) = self.members.get(target).map(|member| member.peer.place) else { return Vec::new() };
        let interval = self.interval();
        let mut found: Vec<(Duration, Name)> = self
            .members
            .iter()
            .filter(|(name, member)| {
                *name != target
                    && matches!(member.link.way(), Way::Direct(_))
                    && member.link.state(interval, now) == State::Up
                    // What fell silent with the target will not help it.
                    && member.link.silence(now) <= interval * 3 / 2
            })
            .filter_map(|(name, member)| {
                let (news, at) = member.told.as_ref()?;
                let fresh = now.saturating_duration_since(*at) < STALE;
                let beyond = news.reached.get(&place).filter(|_| fresh)?;
                Some((member.link.inside().rtt? + *beyond, name.clone()))
            })
            .collect();
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Everything that the plane should do. `relay`: our own socket whose datagrams reach a peer through a third POP.
    #[must_use]
    pub fn wanted(&self, relay: impl Fn(&Name) -> Option<SocketAddr>) -> Wanted {
        let peers = self.members.iter().map(|(name, member)| {
            let address = match member.link.way() {
                Way::Direct(at) => *at,
                Way::Relay(_) => relay(name),
            };
            let turn = member.link.turn();
            let wanted = PeerWanted {
                keys: public(&member.peer),
                preshared: member.peer.preshared.as_ref().map(|key| *key.expose()),
                allowed: self.config.fleet.subnet(member.peer.place),
                keepalive: member.peer.keepalive,
                endpoint: address.map(|address| Endpoint { address, turn }),
                mtu: self.mtu_of(member),
            };
            (name.clone(), wanted)
        });
        Wanted { peers: peers.collect() }
    }

    /// The longest packet inside that gets to a peer.
    fn mtu_of(&self, member: &Member) -> u16 {
        let direct = self.config.mtu.unwrap_or(member.mtu);
        let mtu = match member.link.way() {
            Way::Direct(_) => direct,
            Way::Relay(through) => {
                let inside =
                    self.members.get(through).map_or(USUAL_MTU, |relay| self.config.mtu.unwrap_or(relay.mtu));
                inside.saturating_sub(RELAYED).min(direct)
            }
        };
        mtu.max(LEAST_MTU)
    }

    /// The longest packet that any path takes: the interface's own MTU.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        let most = self.members.values().map(|member| self.config.mtu.unwrap_or(member.mtu)).max();
        most.or(self.config.mtu).unwrap_or(USUAL_MTU).max(LEAST_MTU)
    }

    /// What counts for backends of other POPs.
    #[must_use]
    pub fn said(&self, remote: &[Remote], now: Instant) -> Words {
        let said = remote.iter().filter_map(|it| {
            let word = self.word(&it.there, &it.pop, now)?;
            Some(((Arc::clone(&it.there.0), Arc::clone(&it.id)), word))
        });
        said.collect()
    }

    fn word(&self, key: &(Arc<str>, Arc<str>), pop: &Name, now: Instant) -> Option<Word> {
        let down = |why: String| Some(Word::Down(why.into()));
        let member = self.members.get(pop)?;
        let silence = member.link.silence(now).as_secs_f32();
        match member.link.state(self.interval(), now) {
            State::Starting => return None,
            State::Up => {}
            State::Lossy => {
                let lost = member.link.inside().loss * 100.0;
                return down(format!("the path to {pop} loses {lost:.0} % of its probes"));
            }
            State::TunnelBroken => {
                return down(format!(
                    "the tunnel to {pop} is silent for {silence:.1} s, though {pop} answers outside it"
                ));
            }
            State::Silent => {
                return down(format!(
                    "the path to {pop} is silent for {silence:.1} s, inside the tunnel and outside"
                ));
            }
        }
        let Some((news, at)) = &member.told else { return None };
        let age = now.saturating_duration_since(*at);
        if age > STALE {
            return down(format!("{pop} has not told how its backends are for {:.1} s", age.as_secs_f32()));
        }
        match news.backends.get(key) {
            Some(Told::Up) => Some(Word::Up),
            Some(Told::Down) => down(format!("{pop} says that it is down")),
            Some(Told::Draining) => down(format!("{pop} drains it")),
            Some(Told::Unproven) => None,
            None => down(format!("{pop} has no backend of this name in this service")),
        }
    }

    /// All links, by name.
    pub fn views(&self, now: Instant) -> impl Iterator<Item = (&Name, View<'_>)> {
        let interval = self.interval();
        self.members.iter().map(move |(name, member)| {
            let told = member.told.as_ref().map(|(_, at)| now.saturating_duration_since(*at));
            let (peer, link) = (&member.peer, &member.link);
            (name, View { peer, link, state: link.state(interval, now), told, mtu: self.mtu_of(member) })
        })
    }

    /// The names of all peers.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.members.keys()
    }

    /// The longest packet inside that gets to each peer.
    pub fn mtus(&self) -> impl Iterator<Item = (Place, u16)> {
        self.members.values().map(|member| (member.peer.place, self.mtu_of(member)))
    }

    /// The place of a peer.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<Place> {
        self.members.get(name).map(|member| member.peer.place)
    }

    /// The peer at a place.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&Name> {
        self.members.iter().find(|(_, member)| member.peer.place == place).map(|(name, _)| name)
    }

    /// The way to a peer.
    #[must_use]
    pub fn way(&self, name: &str) -> Option<&Way> {
        self.members.get(name).map(|member| member.link.way())
    }
}

fn public(peer: &Peer) -> Pair<PublicKey> {
    Pair { present: PublicKey(peer.public_key), next: peer.next_public_key.map(PublicKey) }
}

#[cfg(test)]
mod tests;
