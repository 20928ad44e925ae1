//! A network between regions, and what spreads over it.
//!
//! A push that is lost is sent again after the probe timeout of QUIC (RFC 9002 §6.2), which doubles; every transmission
//! counts. Whoever is dead is not known to be, and each push to it is sent a second time in vain before the
//! connection has others to probe with.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use edgeproxy::replication::relay_tree::{self, Place};
use edgeproxy::replication::version::Origin;

/// Milliseconds of a POP for each message that it takes or sends.
const WORK: f64 = 0.05;
/// Gossip: to so many at random, so often, in milliseconds, and each update so many times: what SWIM libraries do in a
/// local network, which is their fastest.
const FANOUT: usize = 3;
const PERIOD: f64 = 200.0;
const REPEATS: u32 = 12;

#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    pub lost: f64,
    pub dead: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    RelayTree,
    Gossip,
}

pub struct World {
    random: u64,
    conditions: Conditions,
    members: BTreeMap<Origin, Place>,
    names: Vec<Origin>,
    indices: BTreeMap<Origin, usize>,
    region_of: Vec<usize>,
    /// One way, in milliseconds.
    far: Vec<Vec<f64>>,
    near: Vec<f64>,
    dead: Vec<bool>,
}

/// Milliseconds as an order; time is never negative here.
fn stamp(time: f64) -> u64 {
    (time * 1_000.0) as u64
}

impl World {
    pub fn new(seed: u64, regions: usize, each: usize, conditions: Conditions) -> Self {
        let mut world = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            conditions,
            members: BTreeMap::new(),
            names: Vec::new(),
            indices: BTreeMap::new(),
            region_of: Vec::new(),
            far: Vec::new(),
            near: Vec::new(),
            dead: Vec::new(),
        };
        // On a sphere's map, more or less: 5 to 150 ms.
        let places: Vec<(f64, f64)> = (0..regions).map(|_| (world.part(), world.part())).collect();
        let between = |a: (f64, f64), b: (f64, f64)| {
            5.0 + 145.0 * ((a.0 - b.0).hypot(a.1 - b.1) / std::f64::consts::SQRT_2)
        };
        world.far = places.iter().map(|a| places.iter().map(|b| between(*a, *b)).collect()).collect();
        world.near = (0..regions).map(|_| 0.5 + 2.0 * world.part()).collect();
        for region in 0..regions {
            for pop in 0..each {
                let name = Origin::new(&format!("p{region}x{pop}")).unwrap();
                world.members.insert(name.clone(), Place { region: format!("r{region}").into() });
                world.indices.insert(name.clone(), world.names.len());
                world.names.push(name);
                world.region_of.push(region);
                let dead = world.part() < conditions.dead;
                world.dead.push(dead);
            }
        }
        world
    }

    pub fn pops(&self) -> usize {
        self.names.len()
    }

    /// One update of somebody who lives: milliseconds until 99 % of those that live have it, and messages.
    pub fn update(&mut self, how: Spread, version: u64) -> (f64, usize) {
        let origin = loop {
            let origin = self.below(self.pops());
            if !self.dead[origin] {
                break origin;
            }
        };
        match how {
            Spread::RelayTree => self.by_relays(origin, version),
            Spread::Gossip => self.by_gossip(origin),
        }
    }

    fn by_relays(&mut self, origin: usize, version: u64) -> (f64, usize) {
        let mut known: Vec<Option<f64>> = vec![None; self.pops()];
        let mut free = vec![0.0f64; self.pops()];
        let mut messages = 0;
        let mut mail = BinaryHeap::from([Reverse((0, origin, true))]);
        while let Some(Reverse((at, pop, spread))) = mail.pop() {
            let at = (at as f64 / 1_000.0).max(free[pop]) + WORK;
            free[pop] = at;
            if self.dead[pop] || known[pop].is_some() {
                continue;
            }
            known[pop] = Some(at);
            if !spread {
                continue;
            }
            let region = self.members[&self.names[pop]].region.clone();
            let me = (&self.names[pop], &*region);
            let targets = relay_tree::targets(&self.names[origin], version, me, self.members.iter());
            let mut sent = at;
            for target in targets {
                sent += WORK;
                let to = self.indices[&target.to];
                let (arrives, times) = self.carry(pop, to, sent);
                messages += times;
                mail.push(Reverse((stamp(arrives), to, target.spread)));
            }
            free[pop] = sent;
        }
        (self.almost_all(&known), messages)
    }

    fn by_gossip(&mut self, origin: usize) -> (f64, usize) {
        let mut known: Vec<Option<f64>> = vec![None; self.pops()];
        let mut messages = 0;
        // Arrivals, and turns of those that know it, with how often they have told it.
        let mut events = BinaryHeap::from([Reverse((0, origin, None::<u32>))]);
        while let Some(Reverse((at, pop, turn))) = events.pop() {
            let now = at as f64 / 1_000.0;
            match turn {
                None if self.dead[pop] || known[pop].is_some() => {}
                None => {
                    known[pop] = Some(now);
                    let first = now + PERIOD * self.part();
                    events.push(Reverse((stamp(first), pop, Some(0))));
                }
                Some(told) => {
                    for _ in 0..FANOUT {
                        let to = self.below(self.pops());
                        messages += 1;
                        // A datagram: what is lost is lost.
                        if self.part() >= self.conditions.lost {
                            events.push(Reverse((stamp(now + self.way(pop, to)), to, None)));
                        }
                    }
                    if told < REPEATS {
                        events.push(Reverse((stamp(now + PERIOD), pop, Some(told + 1))));
                    }
                }
            }
        }
        (self.almost_all(&known), messages)
    }

    /// When a push arrives, and how often it is sent.
    fn carry(&mut self, from: usize, to: usize, mut sent: f64) -> (f64, usize) {
        let way = self.way(from, to);
        if self.dead[to] {
            return (sent + way, 2);
        }
        let mut timeout = (3.0 * way).max(2.0 * way + 25.0);
        let mut times = 1;
        while self.part() < self.conditions.lost {
            sent += timeout;
            timeout *= 2.0;
            times += 1;
        }
        (sent + way, times)
    }

    fn way(&self, from: usize, to: usize) -> f64 {
        let (a, b) = (self.region_of[from], self.region_of[to]);
        if a == b { self.near[a] } else { self.far[a][b] }
    }

    fn almost_all(&self, known: &[Option<f64>]) -> f64 {
        let living = self.dead.iter().filter(|dead| !**dead).count();
        let mut times: Vec<f64> = known.iter().flatten().copied().collect();
        times.sort_by(f64::total_cmp);
        // Who never hears of it this way finds it by comparing, a second or two later.
        times.get(living * 99 / 100).copied().unwrap_or(2_000.0)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.part() * most as f64) as usize
    }

    fn part(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}
