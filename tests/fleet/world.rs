//! POPs with a ledger of announcements and heartbeats each, and a network that loses, delays and cuts.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgeproxy::announce::addresses::Bound;
use edgeproxy::announce::drain::Order;
use edgeproxy::announce::facts::Leaving;
use edgeproxy::announce::lease::{DataPath, Workers};
use edgeproxy::announce::ledger::{Drains, Inputs, Ledger, Plan};
use edgeproxy::catalog::stance::{Heard, Stance};
use edgeproxy::config::anycast::{Anycast, AnycastPrefix, Damping, Drain, Intent};
use edgeproxy::config::services::Watermark;
use edgeproxy::health::{Cause, HealthView, Position, ServiceHealth};
use edgeproxy::observe::journal::CauseIds;
use edgeproxy::replication::heartbeat::Heartbeats;
use edgeproxy::replication::version::Origin;

const TICK: Duration = Duration::from_millis(10);
/// A connection that carries nothing is given up after this, and found again after that.
const IDLE: Duration = Duration::from_secs(6);
const REDIAL: Duration = Duration::from_millis(300);

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub enum Happens {
    Fail { pop: usize, proven: bool },
    Mend { pop: usize },
    Crash { pop: usize },
    Cut { from: usize, to: usize },
    Join { from: usize, to: usize },
    Drain { pop: usize },
    Undrain { pop: usize },
    Stall { pop: usize, time: Duration },
    Nothing,
}

struct Pop {
    ledger: Ledger,
    heartbeats: Heartbeats,
    heard: Arc<Heard>,
    healthy: bool,
    proven: bool,
    failed_at: Instant,
    drains: Drains,
    crashed_at: Option<Instant>,
    /// Its heartbeats stand still; its decision does not.
    stalled_until: Instant,
    announced: bool,
    /// Something has happened that its decision does not know.
    news: bool,
    judge_at: Instant,
}

/// When it arrives, a number, from whom, to whom, over which connection.
type Letter = (Instant, u64, usize, usize, u64, Vec<u8>);

/// A fleet.
pub struct World {
    now: Instant,
    seed: u64,
    min: u32,
    pops: Vec<Pop>,
    /// One-way.
    cuts: BTreeSet<(usize, usize)>,
    /// Since when a way is cut, by its two ends.
    cut_since: BTreeMap<(usize, usize), Instant>,
    connected: BTreeMap<(usize, usize), u64>,
    joins_at: BTreeMap<(usize, usize), Instant>,
    mail: BinaryHeap<std::cmp::Reverse<Letter>>,
    letters: u64,
    plan: Plan,
    ids: CauseIds,
}

fn name(pop: usize) -> Origin {
    Origin::new(&format!("pop{pop}")).unwrap()
}

fn prefix() -> AnycastPrefix {
    AnycastPrefix::new("198.51.100.0/24".parse().unwrap()).unwrap()
}

impl World {
    pub fn new(seed: u64, pops: usize, min: u32) -> Self {
        let now = Instant::now();
        let anycast = Anycast {
            prefix: prefix(),
            addresses: Vec::new(),
            device: "lo".to_owned(),
            services: vec!["web".to_owned()],
            state: Intent::Up,
            attributes: Default::default(),
            degrade: Default::default(),
            drain: Drain { deadline: Duration::from_secs(1), ..Drain::default() },
            min_announcers: min,
            damping: Some(Damping {
                min_up: Duration::from_millis(500),
                max_dwell: Duration::from_secs(4),
                decay: Duration::from_secs(20),
            }),
        };
        let plan = Plan {
            anycast: BTreeMap::from([(prefix(), anycast)]),
            watermarks: BTreeMap::from([("web".to_owned(), Watermark::default())]),
            listens: BTreeMap::new(),
            lease: Default::default(),
            max_age: Duration::from_secs(3),
            graceful: Duration::ZERO,
        };
        let mut world = Self {
            now,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            min,
            pops: Vec::new(),
            cuts: BTreeSet::new(),
            cut_since: BTreeMap::new(),
            connected: BTreeMap::new(),
            joins_at: BTreeMap::new(),
            mail: BinaryHeap::new(),
            letters: 0,
            plan,
            ids: CauseIds::new(1, 0),
        };
        for pop in 0..pops {
            let fresh = world.fresh(pops - 1);
            world.pops.push(fresh);
            for other in 0..pop {
                world.joins_at.insert((other, pop), now);
            }
        }
        world
    }

    fn fresh(&mut self, others: usize) -> Pop {
        Pop {
            ledger: Ledger::new(CauseIds::new(1, 1)),
            heartbeats: Heartbeats::new(Arc::default(), self.now),
            heard: Arc::new(Heard { own: "".into(), members: others, ..Heard::default() }),
            healthy: true,
            proven: true,
            failed_at: self.now,
            drains: Drains::new(),
            crashed_at: None,
            stalled_until: self.now,
            announced: false,
            news: true,
            judge_at: self.now,
        }
    }

    pub fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below.max(1)
    }

    pub fn pops(&self) -> usize {
        self.pops.len()
    }

    pub fn announcing(&self) -> usize {
        self.pops.iter().filter(|pop| pop.announced).count()
    }

    pub fn is_announced(&self, pop: usize) -> bool {
        self.pops[pop].announced
    }

    /// Announced as usual.
    pub fn serving(&self) -> usize {
        let serves = |pop: &&Pop| {
            pop.ledger.stances().of.values().all(|stance| *stance == Stance::Announced) && pop.announced
        };
        self.pops.iter().filter(serves).count()
    }

    pub fn any(&mut self) -> Happens {
        let count = self.pops.len() as u64;
        let pop = self.random(count) as usize;
        let other = (pop + 1 + self.random(count - 1) as usize) % self.pops.len();
        match self.random(12) {
            0..=2 => Happens::Fail { pop, proven: self.random(2) == 0 },
            3 | 4 => Happens::Mend { pop },
            5 => Happens::Crash { pop },
            6 => Happens::Cut { from: pop, to: other },
            7 => Happens::Join { from: pop, to: other },
            8 => Happens::Drain { pop },
            9 => Happens::Undrain { pop },
            10 => Happens::Stall { pop, time: Duration::from_millis(self.random(4_000)) },
            _ => Happens::Nothing,
        }
    }

    pub fn happen(&mut self, what: Happens) {
        let now = self.now;
        match what {
            Happens::Fail { pop, proven } => {
                let pop = &mut self.pops[pop];
                if pop.healthy {
                    (pop.healthy, pop.proven, pop.failed_at, pop.news) = (false, proven, now, true);
                }
            }
            Happens::Mend { pop } => self.pops[pop].healthy = true,
            Happens::Crash { pop } => {
                let others = self.pops.len() - 1;
                let healthy = self.pops[pop].healthy;
                self.pops[pop] = Pop { healthy, crashed_at: Some(now), ..self.fresh(others) };
                // Its connections are reset, and made anew.
                for other in (0..self.pops.len()).filter(|other| *other != pop) {
                    let ends = (pop.min(other), pop.max(other));
                    if self.connected.remove(&ends).is_some() {
                        self.pops[other].heartbeats.handle_disconnected(&name(pop));
                    }
                    self.joins_at.insert(ends, now + REDIAL);
                }
            }
            Happens::Cut { from, to } => {
                self.cuts.insert((from, to));
                self.cut_since.entry((from.min(to), from.max(to))).or_insert(now);
            }
            Happens::Join { from, to } => {
                self.cuts.remove(&(from, to));
                self.cuts.remove(&(to, from));
                self.cut_since.remove(&(from.min(to), from.max(to)));
            }
            Happens::Drain { pop } => {
                let order = Order {
                    reason: String::new(),
                    begun: now,
                    deadline: now + Duration::from_secs(1),
                    resumed: false,
                    force: false,
                    cause: self.ids.next_id(),
                };
                self.pops[pop].drains.insert(prefix(), order);
            }
            Happens::Undrain { pop } => {
                self.pops[pop].drains.clear();
            }
            Happens::Stall { pop, time } => self.pops[pop].stalled_until = now + time,
            Happens::Nothing => {}
        }
    }

    /// The first so many POPs and the others lose each other.
    pub fn split(&mut self, minority: usize) {
        for few in 0..minority {
            for many in minority..self.pops.len() {
                self.happen(Happens::Cut { from: few, to: many });
                self.happen(Happens::Cut { from: many, to: few });
            }
        }
    }

    pub fn mend(&mut self) {
        self.cuts.clear();
        self.cut_since.clear();
        for pop in 0..self.pops.len() {
            self.happen(Happens::Mend { pop });
            self.happen(Happens::Undrain { pop });
        }
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            self.connect();
            self.deliver();
            for pop in 0..self.pops.len() {
                self.turn(pop);
            }
        }
    }

    fn connect(&mut self) {
        let gone: Vec<_> = self
            .cut_since
            .iter()
            .filter(|(ends, since)| self.now >= **since + IDLE && self.connected.contains_key(ends))
            .map(|(ends, _)| *ends)
            .collect();
        for (a, b) in gone {
            self.connected.remove(&(a, b));
            self.pops[a].heartbeats.handle_disconnected(&name(b));
            self.pops[b].heartbeats.handle_disconnected(&name(a));
            self.joins_at.insert((a, b), self.now + REDIAL);
        }
        let able: Vec<_> = self
            .joins_at
            .iter()
            .filter(|(ends, at)| self.now >= **at && !self.cut_since.contains_key(ends))
            .map(|(ends, _)| *ends)
            .collect();
        for (a, b) in able {
            self.joins_at.remove(&(a, b));
            self.letters += 1;
            self.connected.insert((a, b), self.letters);
            self.pops[a].heartbeats.handle_connected(&name(b), self.now);
            self.pops[b].heartbeats.handle_connected(&name(a), self.now);
        }
    }

    fn deliver(&mut self) {
        while self.mail.peek().is_some_and(|letter| letter.0.0 <= self.now) {
            let std::cmp::Reverse((_, _, from, to, connection, octets)) = self.mail.pop().unwrap();
            let same = self.connected.get(&(from.min(to), from.max(to))) == Some(&connection);
            if same && !self.cuts.contains(&(from, to)) {
                self.pops[to].heartbeats.handle_datagram(&name(from), &octets, self.now).unwrap();
            }
        }
    }

    fn turn(&mut self, index: usize) {
        let now = self.now;
        let pop = &mut self.pops[index];
        if std::mem::take(&mut pop.news) || pop.judge_at <= now {
            pop.judge_at = now + Duration::from_millis(100);
            self.judge(index);
        }
        let pop = &mut self.pops[index];
        if pop.stalled_until > now || pop.heartbeats.next_deadline() > now {
            return;
        }
        pop.heartbeats.handle_timeout(now);
        let others = self.pops.len() - 1;
        let pop = &mut self.pops[index];
        if let Some(heard) = pop.heartbeats.poll_heard(&name(index), others, now) {
            (pop.heard, pop.news) = (Arc::new(heard), true);
        }
        while let Some((to, octets)) = self.pops[index].heartbeats.poll_transmit() {
            let to: usize = to.as_str()[3..].parse().unwrap();
            let Some(&connection) = self.connected.get(&(index.min(to), index.max(to))) else { continue };
            if self.random(100) < 3 {
                continue;
            }
            let at = now + Duration::from_millis(1 + self.random(80));
            self.letters += 1;
            self.mail.push(std::cmp::Reverse((at, self.letters, index, to, connection, octets)));
        }
    }

    fn judge(&mut self, index: usize) {
        let now = self.now;
        let pop = &mut self.pops[index];
        let view = view(pop, now);
        let inputs = Inputs {
            plan: &self.plan,
            view: &view,
            bound: &Bound::new(),
            drains: &pop.drains,
            data_path: &DataPath { workers: Workers::Unproven { worker: 0 }, paths: None },
            heard: Some(&pop.heard),
            leaving: Leaving::No,
            command: None,
        };
        pop.ledger.judge(inputs, now);
        let was = std::mem::replace(&mut pop.announced, !pop.ledger.wanted().is_empty());
        if was && !pop.announced {
            self.left(index);
        }
        if self.pops[index].stalled_until <= now {
            let pop = &mut self.pops[index];
            pop.heartbeats.handle_own(pop.ledger.stances().clone(), now);
        }
    }

    /// Somebody has withdrawn: enough others announce, or were there until they crashed, or it was alone and its fault
    /// was proven.
    fn left(&self, index: usize) {
        let pop = &self.pops[index];
        let (now, heard) = (self.now, &pop.heard);
        let alone = !heard.pops.values().any(|other| other.counts(now));
        if alone && !pop.healthy && pop.proven {
            return;
        }
        let crashed = |pop: &Pop| pop.crashed_at.is_some_and(|at| now < at + Duration::from_secs(2));
        let others = self.pops.iter().enumerate().filter(|(other, _)| *other != index);
        let there =
            others.filter(|(_, other)| other.announced || crashed(other) || self.is_excused(other)).count();
        assert!(
            there >= self.min as usize,
            "pop{index} has left, and only {there} others are there; it heard {heard:#?}"
        );
    }

    /// It left lately because it was alone with a proven fault.
    fn is_excused(&self, pop: &Pop) -> bool {
        !pop.healthy && pop.proven && !pop.heard.pops.values().any(|other| other.counts(self.now))
    }
}

fn view(pop: &Pop, now: Instant) -> HealthView {
    let cause = Cause {
        service: "web".to_owned(),
        backend: "web-1".to_owned(),
        target: "192.0.2.1:80".parse().unwrap(),
        error: "no answer".to_owned(),
        failed_at: pop.failed_at,
        proven: pop.proven,
    };
    let health = ServiceHealth {
        position: if pop.healthy { Position::Full } else { Position::Low },
        healthy_weight: u32::from(pop.healthy),
        total_weight: 1,
        proven: true,
        serving: pop.healthy,
        cause: (!pop.healthy).then_some(cause),
        since: pop.failed_at,
        changed_by: None,
    };
    HealthView { services: BTreeMap::from([("web".to_owned(), health)]), as_of: now }
}
