//! Who is alive, as the whole fleet sees it: SWIM, in a time that stands still while this process does.
//!
//! Its packets travel as datagrams on the authenticated connections of replication, so whoever cannot be reached
//! directly is asked for through others. What is proven directly and fast is said by heartbeats; this is the slow,
//! wide view: who is gone for everybody, not only for us.

mod packet;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use foca::{AccumulatingRuntime, Config, Foca, NoCustomBroadcast, OwnedNotification, State, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::packet::{Codec, Node};
use super::rates::Rates;
use super::version::{MOST_ORIGINS, Origin};
pub use packet::KIND;

/// Octets of a packet; a datagram of QUIC carries a little more on every path.
const MOST_PACKET: usize = 1_000;
/// Longer than this between two looks at the clock, this process did not run.
const PAUSE: Duration = Duration::from_secs(1);
/// How much slower than the others a strained POP judges.
const MOST_STRAIN: u32 = 8;
/// Packets of one peer in a second, and four times as many at once.
const RATE: u64 = 50;
/// This share of the fleet (in percent) within this time: rather it is us.
const SHARE: usize = 15;
const WINDOW: Duration = Duration::from_secs(60);
/// How often somebody is greeted who is connected to us and down for the fleet.
const GREET: Duration = Duration::from_secs(5);

/// How a POP stands with the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Alive,
    /// Somebody did not reach it; it has time to answer.
    Suspect,
    /// Nobody has reached it, or it has left.
    Down,
}

impl Standing {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

/// So many POPs vanished at once that our own way out is the likelier cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    pub vanished: usize,
    pub of: usize,
}

/// The view of one POP.
pub struct Membership {
    foca: Foca<Node, Codec, SmallRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Node>,
    timers: BTreeMap<(Instant, u64), Timer<Node>>,
    number: u64,
    looked: Instant,
    /// 0 when all is well here: Lifeguard's local health, from probes that fail and pauses of this process.
    strain: u32,
    connected: BTreeSet<Origin>,
    rates: Rates,
    /// Those that somebody reaches, by what the fleet says, and those that nobody does.
    alive: BTreeSet<Origin>,
    gone: BTreeSet<Origin>,
    /// Those that we do not reach, and since when.
    lost: BTreeMap<Origin, Instant>,
    /// Of them, those that went together.
    doubted: BTreeSet<Origin>,
    transmits: VecDeque<(Origin, Vec<u8>)>,
    greet_at: Instant,
    changed: bool,
}

impl Membership {
    /// `life`: higher at every start, so that a restart is not taken for the one that has died. `seed`: random.
    #[must_use]
    pub fn new(own: Origin, life: u64, seed: u64, now: Instant) -> Self {
        let node = Node { name: own, life };
        Self {
            foca: Foca::new(node, config(1), SmallRng::seed_from_u64(seed), Codec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            number: 0,
            looked: now,
            strain: 0,
            connected: BTreeSet::new(),
            rates: Rates::new(RATE),
            alive: BTreeSet::new(),
            gone: BTreeSet::new(),
            lost: BTreeMap::new(),
            doubted: BTreeSet::new(),
            transmits: VecDeque::new(),
            greet_at: now + GREET,
            changed: true,
        }
    }

    /// A connection leads to somebody: we ask it for everybody it knows.
    pub fn handle_connected(&mut self, peer: &Origin, now: Instant) {
        self.connected.insert(peer.clone());
        self.lost.remove(peer);
        self.doubted.remove(peer);
        self.greet(peer);
        self.settle(now);
    }

    fn greet(&mut self, peer: &Origin) {
        // In whatever life it is: what it answers says that.
        let _ = self.foca.announce(Node { name: peer.clone(), life: 0 }, &mut self.runtime);
    }

    pub fn handle_disconnected(&mut self, peer: &Origin, now: Instant) {
        self.connected.remove(peer);
        self.lost.entry(peer.clone()).or_insert(now);
        self.judge(now);
    }

    /// A packet of somebody whose connection has proven the name.
    ///
    /// # Errors
    /// When it is no packet of that POP, or one too many.
    pub fn handle_datagram(&mut self, peer: &Origin, octets: &[u8], now: Instant) -> Result<(), String> {
        if !self.connected.contains(peer) {
            return Err("its connection is gone".to_owned());
        }
        if self.rates.wait(peer, now).is_some() {
            return Err("too many packets".to_owned());
        }
        self.rates.handle_taken(peer, 1, now);
        let packet = octets.strip_prefix(&[KIND]).ok_or("no packet of membership")?;
        if packet::sender(packet).map_err(|error| error.to_string())? != *peer {
            return Err("it speaks for somebody else".to_owned());
        }
        if self.foca.iter_membership_state().len() >= MOST_ORIGINS {
            return Err(format!("more than {MOST_ORIGINS} POPs"));
        }
        let handled = self.foca.handle_data(packet, &mut self.runtime);
        self.settle(now);
        handled.map_err(|error| error.to_string())
    }

    /// A higher life of our own: what is known of us elsewhere is older.
    pub fn handle_life(&mut self, life: u64, now: Instant) {
        let own = self.foca.identity();
        if life > own.life {
            let node = Node { life, ..own.clone() };
            let _ = self.foca.change_identity(node, &mut self.runtime);
            self.settle(now);
        }
    }

    /// Says to everybody that this POP goes.
    pub fn leave(&mut self, now: Instant) {
        let _ = self.foca.leave_cluster(&mut self.runtime);
        self.settle(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.looked);
        self.looked = now;
        if pause > PAUSE {
            // Answers may have come in the meantime and were not read: nobody is accused for it.
            let timers = std::mem::take(&mut self.timers);
            self.timers = timers.into_iter().map(|((at, n), timer)| ((at + pause, n), timer)).collect();
            self.strain = (self.strain + 1).min(MOST_STRAIN);
        }
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now) {
            let timer = entry.remove();
            if matches!(timer, Timer::ProbeRandomMember(_)) {
                self.strain = self.strain.saturating_sub(1);
            }
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
            self.settle(now);
        }
        if self.greet_at <= now {
            self.greet_at = now + GREET;
            // After a partition: they hear that they are down for us, and come back in another life.
            for peer in self.gone.intersection(&self.connected).cloned().collect::<Vec<_>>() {
                self.greet(&peer);
            }
            self.settle(now);
        }
        self.judge(now);
    }

    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let latest = self.looked + PAUSE / 2;
        self.timers.first_key_value().map_or(latest, |((at, _), _)| latest.min(*at))
    }

    /// What to send, to whom, on its connection.
    pub fn poll_transmit(&mut self) -> Option<(Origin, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// Whether anybody's standing has changed since this was asked last.
    pub fn poll_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Everybody that the fleet has said something about.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<Origin, Standing> {
        let known = self.foca.iter_membership_state().map(|member| {
            let standing = match member.state() {
                State::Alive => Standing::Alive,
                State::Suspect => Standing::Suspect,
                State::Down => Standing::Down,
            };
            (member.id().name.clone(), standing)
        });
        known.collect()
    }

    /// Those that are down, for us too, and not because of us.
    pub fn gone(&self) -> impl Iterator<Item = &Origin> {
        self.gone.iter().filter(|name| !self.connected.contains(*name) && !self.doubted.contains(*name))
    }

    /// Whether what another POP says counts as current: we reach it, or others do, or it is we that are cut off.
    #[must_use]
    pub fn is_current(&self, name: &Origin) -> bool {
        self.connected.contains(name) || self.alive.contains(name) || self.doubted.contains(name)
    }

    /// Whether rather we are cut off than the others gone.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        let of = self.foca.num_members() + self.gone.len();
        (!self.doubted.is_empty()).then_some(Doubt { vanished: self.doubted.len(), of })
    }

    #[must_use]
    pub fn strain(&self) -> u32 {
        self.strain
    }

    /// Takes over what an event led to.
    fn settle(&mut self, now: Instant) {
        while let Some((to, octets)) = self.runtime.to_send() {
            let mut datagram = Vec::with_capacity(octets.len() + 1);
            datagram.push(KIND);
            datagram.extend_from_slice(&octets);
            self.transmits.push_back((to.name, datagram));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            // A strained POP gives everybody more time.
            let patient = matches!(timer, Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. });
            let after = if patient { after * (1 + self.strain) } else { after };
            self.number += 1;
            self.timers.insert((now + after, self.number), timer);
        }
        let mut resized = false;
        while let Some(news) = self.runtime.to_notify() {
            match news {
                OwnedNotification::MemberUp(node) => {
                    (self.changed, resized) = (true, true);
                    self.gone.remove(&node.name);
                    self.alive.insert(node.name);
                }
                OwnedNotification::MemberDown(node) => {
                    (self.changed, resized) = (true, true);
                    self.lost.entry(node.name.clone()).or_insert(now);
                    self.alive.remove(&node.name);
                    self.gone.insert(node.name);
                }
                OwnedNotification::ProbeFailed(..) => {
                    self.changed = true;
                    // One of the two is the step back that every probe takes.
                    self.strain = (self.strain + 2).min(MOST_STRAIN);
                }
                _ => {}
            }
        }
        if resized {
            let _ = self.foca.set_config(config(self.foca.num_members() + 1));
        }
    }

    /// Whether those that we have lost were lost together.
    fn judge(&mut self, now: Instant) {
        let (of, before) = (self.foca.num_members() + self.gone.len(), self.doubted.len());
        let lately = self.lost.iter().filter(|(_, at)| now.saturating_duration_since(**at) < WINDOW);
        let lately: Vec<&Origin> = lately.map(|(name, _)| name).collect();
        if lately.len() > 1 && lately.len() * 100 > SHARE * of {
            self.doubted.extend(lately.into_iter().cloned());
        } else if lately.is_empty() && 2 * self.connected.len() >= of {
            // A minute later most of the fleet is here with us: the others are the ones that are cut off.
            self.doubted.clear();
        }
        self.changed |= self.doubted.len() != before;
        // No more of them are remembered than foca knows.
        let known = self.foca.iter_membership_state();
        if self.lost.len() > known.len() {
            let known: BTreeSet<&Origin> = known.map(|member| &member.id().name).collect();
            self.lost.retain(|name, _| known.contains(name));
            self.gone.retain(|name| known.contains(name));
            self.doubted.retain(|name| known.contains(name));
        }
    }
}

/// foca's for wide-area networks, for a fleet of this size.
fn config(pops: usize) -> Config {
    let size = u32::try_from(pops).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    let packet = NonZeroUsize::new(MOST_PACKET).unwrap_or(NonZeroUsize::MIN);
    Config { max_packet_size: packet, ..Config::new_wan(size) }
}
