//! A fleet in virtual time: replicas, their disks, and a network that does what networks do.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgeproxy::replication::head::{Head, SIGNATURE, Signed};
use edgeproxy::replication::merge::{Limits, Offer};
use edgeproxy::replication::record::{Change, Key, Row, Table, Value};
use edgeproxy::replication::relay_tree::Place;
use edgeproxy::replication::replica::{Effect, Fetched, Replica, Ticket, Trust};
use edgeproxy::replication::sync::Buckets;
use edgeproxy::replication::version::{Known, Origin, Point};

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Loss,
    Partition,
    Crash,
    /// The machine comes back without its disk.
    Amnesia,
    /// It comes back with an earlier disk.
    Rollback,
    /// Writes fail for a while.
    Disk,
}

/// Everybody signs with a hash here: what is tested is not the signature.
struct Seal;

fn seal(head: &Head) -> [u8; SIGNATURE] {
    let mut signature = [0; SIGNATURE];
    signature[..32].copy_from_slice(blake3::hash(&head.signed_text("test")).as_bytes());
    signature
}

impl Trust for Seal {
    fn verify(&mut self, signed: &Signed) -> Result<(), String> {
        if signed.signature == seal(&signed.head) { Ok(()) } else { Err("not signed".to_owned()) }
    }

    fn sign(&self, head: Head) -> Signed {
        let signature = seal(&head);
        Signed { head, certificate: Vec::new().into(), signature }
    }
}

type Disk = BTreeMap<Origin, (Signed, BTreeMap<Key, Row>)>;

struct Pop {
    replica: Replica<Seal>,
    disk: Disk,
    /// Earlier disks.
    past: Vec<Disk>,
    up: bool,
    side: u8,
    disk_fails: bool,
    /// What it wrote: by ticket, and what was acknowledged of it, last.
    tickets: BTreeMap<Ticket, Vec<Change>>,
    acknowledged: BTreeMap<Key, Option<Value>>,
    /// Written, but nobody said what became of it: either value may be there.
    doubtful: BTreeMap<Key, Vec<(Ticket, Option<Value>)>>,
}

#[derive(Debug)]
enum Message {
    Push(bool, Arc<Offer>),
    Compare(Box<Buckets>, Option<Known>),
    Compared(Vec<(Origin, Known)>),
    Fetch(Origin, Option<Point>),
    Fetched(Origin, Option<Box<Offer>>),
    Persisted(bool),
}

struct Event {
    at: Duration,
    number: u64,
    from: usize,
    to: usize,
    /// Of the run of the process that it is for.
    run: (u64, u64),
    message: Message,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

pub struct World {
    start: Instant,
    now: Duration,
    pops: Vec<Pop>,
    /// Counted up at every start of a process.
    runs: Vec<u64>,
    /// How far the clock of each is off.
    skews: Vec<Duration>,
    connected: BTreeMap<(usize, usize), bool>,
    events: BinaryHeap<Event>,
    number: u64,
    random: u64,
    loss: u64,
    written: u64,
}

fn origin(pop: usize) -> Origin {
    Origin::new(&format!("pop{pop}")).unwrap()
}

impl World {
    pub fn new(seed: u64, pops: usize) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now: Duration::ZERO,
            pops: Vec::new(),
            runs: vec![0; pops],
            skews: vec![Duration::ZERO; pops],
            connected: BTreeMap::new(),
            events: BinaryHeap::new(),
            number: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            loss: 0,
            written: 0,
        };
        for pop in 0..pops {
            // Two hours between the first and the last: an hour to either side.
            world.skews[pop] = Duration::from_secs(world.random(7_200));
        }
        for pop in 0..pops {
            let replica = world.replica(pop, &Disk::new(), pops);
            world.pops.push(Pop {
                replica,
                disk: Disk::new(),
                past: Vec::new(),
                up: true,
                side: 0,
                disk_fails: false,
                tickets: BTreeMap::new(),
                acknowledged: BTreeMap::new(),
                doubtful: BTreeMap::new(),
            });
        }
        world.reconnect();
        world
    }

    /// What the clock of a POP says.
    fn instant(&self, pop: usize) -> Instant {
        self.start + self.now + self.skews[pop]
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    fn replica(&mut self, pop: usize, disk: &Disk, pops: usize) -> Replica<Seal> {
        let stored = disk.values().map(|(head, rows)| {
            let mut rows: Vec<Row> = rows.values().cloned().collect();
            rows.sort_by_key(|row| row.version);
            (head.clone(), rows)
        });
        let stored = stored.collect();
        let instance = self.random(u64::MAX >> 12) + 1;
        let mut replica = Replica::new(
            &origin(pop),
            "eu".into(),
            instance,
            Limits::default(),
            Seal,
            stored,
            self.instant(pop),
        );
        let others = (0..pops).filter(|other| *other != pop);
        replica.handle_members(others.map(|other| (origin(other), Place { region: "eu".into() })).collect());
        replica
    }

    /// Rows of a POP change; what becomes of it is kept in mind.
    pub fn write(&mut self, pop: usize, rows: u64) {
        self.change(pop, rows, false);
    }

    fn change(&mut self, pop: usize, rows: u64, delete: bool) {
        if !self.pops[pop].up {
            return;
        }
        let changes: Vec<Change> = (0..rows)
            .map(|_| {
                self.written += 1;
                // POPs of several versions: the odd ones write what the others do not know.
                let (table, kind) = if pop.is_multiple_of(2) { (Table(1), 1) } else { (Table(900), 9) };
                let key = Key::new(table, &[self.random(12) as u8]).unwrap();
                let keep = !delete && self.random(4) > 0;
                let revision = 1 + (self.written % 3) as u16;
                let value = keep.then(|| Value::new(kind, revision, &self.written.to_be_bytes()).unwrap());
                Change { key, value }
            })
            .collect();
        self.submit(pop, changes);
    }

    fn submit(&mut self, pop: usize, changes: Vec<Change>) {
        self.number += 1;
        let ticket = Ticket(self.number);
        let one = &mut self.pops[pop];
        for change in &changes {
            one.doubtful.entry(change.key.clone()).or_default().push((ticket, change.value.clone()));
        }
        one.tickets.insert(ticket, changes.clone());
        one.replica.handle_write(ticket, changes);
        self.drain(pop);
    }

    pub fn delete_everything(&mut self) {
        for pop in 0..self.pops.len() {
            let name = origin(pop);
            let rows: Vec<Key> =
                self.pops[pop].replica.ledger().rows(&name).map(|row| row.key.clone()).collect();
            self.submit(pop, rows.into_iter().map(|key| Change { key, value: None }).collect());
        }
    }

    /// Something happens, perhaps something bad.
    pub fn mischief(&mut self, faults: &[Fault]) {
        let pop = self.random(self.pops.len() as u64) as usize;
        for _ in 0..self.random(4) {
            let writer = self.random(self.pops.len() as u64) as usize;
            let rows = 1 + self.random(4);
            self.write(writer, rows);
        }
        if self.random(3) == 0 {
            let disk = self.pops[pop].disk.clone();
            self.pops[pop].past.push(disk);
        }
        let fault = faults[self.random(faults.len() as u64) as usize];
        match (fault, self.random(3)) {
            (_, 0) if !self.pops[pop].up => {
                let disk = self.pops[pop].disk.clone();
                self.start_pop(pop, disk);
            }
            (Fault::Loss, _) => self.loss = self.random(60),
            (Fault::Partition, _) => {
                for pop in 0..self.pops.len() {
                    self.pops[pop].side = self.random(2) as u8;
                }
                self.reconnect();
            }
            (Fault::Crash, 0 | 1) => self.crash(pop),
            (Fault::Amnesia, 0) if self.is_safe_to_forget(pop) => {
                self.crash(pop);
                self.start_pop(pop, Disk::new());
            }
            (Fault::Rollback, 0) if self.is_safe_to_forget(pop) => {
                self.crash(pop);
                let past = self.pops[pop].past.len() as u64;
                let disk = match past {
                    0 => Disk::new(),
                    // Also one of a branch that was given up since.
                    past => {
                        let at = self.random(past) as usize;
                        self.pops[pop].past[at].clone()
                    }
                };
                self.start_pop(pop, disk);
            }
            (Fault::Disk, chance) => self.pops[pop].disk_fails = chance == 0,
            _ => {}
        }
    }

    /// What was acknowledged on a disk that is lost can come back only from those who have seen it, and whoever is
    /// asked first must have seen all of it.
    fn is_safe_to_forget(&self, pop: usize) -> bool {
        let name = origin(pop);
        let ours = self.pops[pop].replica.ledger().head(&name).map(|signed| signed.head.point);
        let everybody = self
            .pops
            .iter()
            .all(|other| other.replica.ledger().head(&name).map(|signed| signed.head.point) == ours);
        everybody && self.pops.iter().filter(|other| other.up).count() > 1
    }

    fn crash(&mut self, pop: usize) {
        if !self.pops[pop].up {
            return;
        }
        self.pops[pop].up = false;
        self.pops[pop].tickets.clear();
        self.runs[pop] += 1;
        self.reconnect();
    }

    fn start_pop(&mut self, pop: usize, disk: Disk) {
        self.runs[pop] += 1;
        let pops = self.pops.len();
        let replica = self.replica(pop, &disk, pops);
        let one = &mut self.pops[pop];
        (one.replica, one.disk, one.up, one.disk_fails) = (replica, disk, true, false);
        self.drain(pop);
        self.reconnect();
    }

    pub fn heal(&mut self) {
        self.loss = 0;
        for pop in 0..self.pops.len() {
            self.pops[pop].side = 0;
            self.pops[pop].disk_fails = false;
            if !self.pops[pop].up {
                let disk = self.pops[pop].disk.clone();
                self.start_pop(pop, disk);
            }
        }
        self.reconnect();
    }

    /// Connections follow who is up and where.
    fn reconnect(&mut self) {
        for one in 0..self.pops.len() {
            for other in 0..self.pops.len() {
                if one == other {
                    continue;
                }
                let (a, b) = (&self.pops[one], &self.pops[other]);
                let wanted = a.up && b.up && a.side == b.side;
                let had = self.connected.insert((one, other), wanted).unwrap_or(false);
                let now = self.instant(one);
                if wanted && !had {
                    self.pops[one].replica.handle_connected(&origin(other), now);
                } else if had && !wanted {
                    self.pops[one].replica.handle_disconnected(&origin(other), now);
                }
            }
        }
        // A process that has begun anew knows of no connection.
        for one in 0..self.pops.len() {
            self.drain(one);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let times = match self.random(100) {
            chance if chance < self.loss => 0,
            chance if chance < self.loss + 5 => 2,
            _ => 1,
        };
        if times != 1 && matches!(message, Message::Push(..)) {
            for _ in 0..times {
                if let Message::Push(spread, offer) = &message {
                    let copy = Message::Push(*spread, Arc::clone(offer));
                    self.post(from, to, copy);
                }
            }
        } else if times > 0 {
            self.post(from, to, message);
        }
    }

    fn post(&mut self, from: usize, to: usize, message: Message) {
        self.number += 1;
        let delay = Duration::from_micros(match message {
            Message::Persisted(_) => 500 + self.random(20_000),
            _ => 1_000 + self.random(80_000),
        });
        let run = (self.runs[from], self.runs[to]);
        self.events.push(Event { at: self.now + delay, number: self.number, from, to, run, message });
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for pop in 0..self.pops.len() {
            self.drain(pop);
        }
        loop {
            let message = self.events.peek().map(|event| event.at);
            let due = (0..self.pops.len()).filter(|pop| self.pops[*pop].up);
            let deadline = |pop: usize| {
                let at = self.pops[pop].replica.next_deadline();
                at.saturating_duration_since(self.start + self.skews[pop]).max(self.now)
            };
            let due = due.map(|pop| (deadline(pop), pop)).min();
            match (message, due) {
                (Some(at), due) if at <= end && due.is_none_or(|(due, _)| at <= due) => {
                    self.now = at;
                    let event = self.events.pop().unwrap();
                    self.deliver(event);
                }
                (_, Some((at, pop))) if at <= end => {
                    self.now = at;
                    let now = self.instant(pop);
                    self.pops[pop].replica.handle_timeout(now);
                    self.drain(pop);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, event: Event) {
        let Event { from, to, run, message, .. } = event;
        let same = run == (self.runs[from], self.runs[to]);
        let linked = from == to || self.connected.get(&(to, from)).copied().unwrap_or(false);
        if !same || !linked || !self.pops[to].up {
            return;
        }
        let (name, now) = (origin(from), self.instant(to));
        let replica = &mut self.pops[to].replica;
        match message {
            Message::Push(spread, offer) => replica.handle_push(&name, spread, (*offer).clone(), now),
            Message::Compare(buckets, yours) => {
                let known = replica.handle_compare(&name, &buckets, yours);
                self.send(to, from, Message::Compared(known));
            }
            Message::Compared(known) => replica.handle_compared(&name, &known, now),
            Message::Fetch(origin, have) => {
                let offer = replica.handle_fetch(&name, &origin, have);
                self.send(to, from, Message::Fetched(origin, offer.map(Box::new)));
            }
            Message::Fetched(origin, offer) => {
                let fetched = self.brought(offer.map(|offer| *offer));
                self.pops[to].replica.handle_fetched(&name, &origin, fetched, now);
            }
            Message::Persisted(kept) => {
                let result = if !kept { Err("no space left on device".to_owned()) } else { Ok(()) };
                self.pops[to].replica.handle_persisted(result);
            }
        }
        self.drain(to);
    }

    /// Some answers are cut off.
    fn brought(&mut self, offer: Option<Offer>) -> Fetched {
        let Some(mut offer) = offer else { return Fetched::Nothing };
        if self.random(5) > 0 {
            return Fetched::Rows(offer);
        }
        let rows = self.random(offer.rows.len() as u64 + 1);
        offer.rows.truncate(rows as usize);
        Fetched::Part(offer)
    }

    fn drain(&mut self, pop: usize) {
        while let Some(effect) = self.pops[pop].replica.poll_effect() {
            match effect {
                Effect::Push { to, spread, offer } => {
                    let to = index(&to);
                    self.send(pop, to, Message::Push(spread, offer));
                }
                Effect::Compare { with, buckets, yours } => {
                    let to = index(&with);
                    self.send(pop, to, Message::Compare(buckets, yours));
                }
                Effect::Fetch { from, origin, have } => {
                    let to = index(&from);
                    self.send(pop, to, Message::Fetch(origin, have));
                }
                Effect::Persist { offer, gone } => {
                    let kept = !self.pops[pop].disk_fails;
                    if kept {
                        keep(&mut self.pops[pop].disk, offer.head, false, offer.rows, &gone);
                    }
                    self.post(pop, pop, Message::Persisted(kept));
                }
                Effect::Keep { head, whole, rows, gone } => {
                    keep(&mut self.pops[pop].disk, head, whole, rows, &gone);
                }
                Effect::Written { ticket, result } => {
                    let one = &mut self.pops[pop];
                    let changes = one.tickets.remove(&ticket).unwrap_or_default();
                    for change in changes {
                        if result.is_ok() {
                            one.acknowledged.insert(change.key.clone(), change.value.clone());
                            if let Some(doubtful) = one.doubtful.get_mut(&change.key) {
                                doubtful.retain(|(other, _)| *other > ticket);
                            }
                        }
                    }
                }
                Effect::Changed { .. } => {}
            }
        }
    }

    pub fn assert_equal(&self) {
        let first = self.pops[0].replica.ledger();
        for (at, pop) in self.pops.iter().enumerate() {
            let ledger = pop.replica.ledger();
            assert_eq!(ledger.vector(), first.vector(), "pop{at} and pop0");
            assert_eq!(ledger.vector().len(), self.pops.len());
            for name in ledger.vector().keys() {
                let rows = |ledger: &edgeproxy::replication::merge::Ledger| -> Vec<Arc<Row>> {
                    ledger.rows(name).cloned().collect()
                };
                assert_eq!(rows(ledger), rows(first), "{name} at pop{at} and pop0");
            }
            assert_eq!(pop.replica.rival(), None, "pop{at}");
            // What is on the disk is what is in memory.
            for (name, (head, rows)) in &pop.disk {
                assert_eq!(Some(head), ledger.head(name), "the disk of pop{at}");
                assert_eq!(rows.len(), ledger.rows(name).count(), "the disk of pop{at}");
            }
        }
    }

    pub fn assert_nothing_acknowledged_is_lost(&self) {
        for (at, pop) in self.pops.iter().enumerate() {
            for (key, value) in &pop.acknowledged {
                let row = pop.replica.ledger().row(&origin(at), key);
                let there = row.and_then(|row| row.value.clone());
                let maybe = pop
                    .doubtful
                    .get(key)
                    .is_some_and(|values| values.iter().any(|(_, value)| *value == there));
                assert!(there == *value || maybe, "pop{at} {key:?}: {there:?} instead of {value:?}");
            }
        }
    }

    pub fn rows(&self) -> u64 {
        self.pops[0].replica.ledger().size().0
    }
}

fn index(origin: &Origin) -> usize {
    origin.as_str()[3..].parse().unwrap()
}

fn keep(disk: &mut Disk, head: Signed, whole: bool, rows: Vec<Arc<Row>>, gone: &[Key]) {
    let (kept, table) =
        disk.entry(head.head.origin.clone()).or_insert_with(|| (head.clone(), BTreeMap::new()));
    *kept = head;
    let _ = whole;
    for key in gone {
        table.remove(key);
    }
    for row in rows {
        table.insert(row.key.clone(), (*row).clone());
    }
}
