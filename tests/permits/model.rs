//! The fleet as states and steps.
//!
//! A word to or from a voter may arrive never, late, or many times: once it is said it can be taken at any moment. Of
//! heartbeats between two POPs one is under way at a time, and the next overtakes it: what their rounds make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use edgeproxy::announce::fleet::{FleetFact, Outlook, Want};
use edgeproxy::catalog::stance::{Failure, Heard, HeardOf, Stance};
use edgeproxy::replication::version::Origin;
use edgeproxy::replication::voters::{Known, PermitId, Reply, Voter, Word};
use ipnetwork::IpNetwork;
use stateright::{Model, Property};

pub const ENOUGH: &str = "enough announce it, but for crashes";
pub const DRAINED: &str = "somebody is drained";
pub const FAILED: &str = "somebody leaves because it fails";
pub const HELD: &str = "somebody is held";
pub const REFUSED: &str = "a permit is refused";

/// POPs that announce, which are voters as well, and one voter more.
const POPS: u8 = 4;
const VOTERS: u8 = 5;

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How often something happens in one story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub drains: u8,
    pub failures: u8,
    pub crashes: u8,
    /// Undrained or healthy again.
    pub returns: u8,
}

/// The model.
pub struct Fleet {
    min: u32,
    bounds: Bounds,
}

/// How a POP stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stands {
    Announced,
    Draining,
    Drained,
    Held,
    Failed,
    Crashed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pop {
    stands: Stands,
    revision: u8,
    /// The revision in which it said first that it leaves.
    told: u8,
    permits: u8,
    asks: Option<(u8, BTreeSet<u8>)>,
    holds: Option<u8>,
    /// What it heard of others: how they stand, and which revision of its own they know.
    views: BTreeMap<u8, (Stands, u8, u8)>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The last one only votes.
    pops: Vec<Pop>,
    voters: Vec<Voter>,
    /// From and to: how the sender stands, its revision, and which of the receiver's it knows.
    heartbeats: BTreeMap<(u8, u8), (Stands, u8, u8)>,
    asked: BTreeSet<(u8, u8)>,
    granted: BTreeSet<(u8, u8, u8)>,
    /// Who, up to which of its permits, and which one it holds.
    said: BTreeSet<(u8, u8, Option<u8>)>,
    left: Bounds,
    refused: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Beat(u8, u8),
    Hear(u8, u8),
    Forget(u8, u8),
    Drain(u8),
    GiveUp(u8),
    Vote { voter: u8, pop: u8, permit: u8 },
    Granted { voter: u8, pop: u8, permit: u8 },
    Told { voter: u8, pop: u8, up_to: u8, holds: Option<u8> },
    Leave(u8),
    Undrain(u8),
    Fail(u8),
    Retry(u8),
    Heal(u8),
    Crash(u8),
}

fn name(pop: u8) -> Origin {
    Origin::new(&format!("pop{pop}")).unwrap()
}

fn prefix() -> IpNetwork {
    "198.51.100.0/24".parse().unwrap()
}

fn permit(number: u8) -> PermitId {
    PermitId { incarnation: 1, number: u64::from(number) }
}

/// Different at every POP: that a fault is shared only ever holds more of them.
fn failure(pop: u8) -> Failure {
    Failure::new(&format!("below-watermark web{pop}"), *NOW)
}

fn stance(pop: u8, stands: Stands) -> Stance {
    match stands {
        Stands::Announced => Stance::Announced,
        Stands::Draining => Stance::Draining,
        Stands::Held => Stance::Held(failure(pop)),
        Stands::Failed => Stance::Failed(failure(pop)),
        Stands::Drained | Stands::Crashed => Stance::Withdrawn,
    }
}

impl Fleet {
    pub fn new(min: u32, bounds: Bounds) -> Self {
        Self { min, bounds }
    }

    /// A long story, step after step at random; the properties that it shows. Panics with the story if too few
    /// announce.
    pub fn walk(&self, seed: u64, steps: usize) -> BTreeSet<&'static str> {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (properties, mut shown) = (self.properties(), BTreeSet::new());
        let (mut story, mut actions) = (Vec::new(), Vec::new());
        let mut state = self.init_states().remove(0);
        for _ in 0..steps {
            actions.clear();
            self.actions(&state, &mut actions);
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let step = actions[(random % actions.len() as u64) as usize].clone();
            let Some(next) = self.next_state(&state, step.clone()) else { continue };
            story.push(step);
            state = next;
            for property in &properties {
                match ((property.condition)(self, &state), property.name) {
                    (false, ENOUGH) => panic!("seed {seed}: too few announce after {story:#?}\n{state:#?}"),
                    (true, name) => drop(shown.insert(name)),
                    (false, _) => {}
                }
            }
        }
        shown
    }

    /// What the decision of a POP knows.
    fn fact(&self, own: u8, pop: &Pop) -> FleetFact {
        let heard = |(other, (stands, _, knows)): (&u8, &(Stands, u8, u8))| {
            let of = Arc::new(BTreeMap::from([(prefix(), stance(*other, *stands))]));
            let heard = HeardOf { at: *NOW, answered: *NOW, revision: u64::from(*knows), of };
            (name(*other).name(), heard)
        };
        FleetFact {
            prefix: prefix(),
            min_announcers: self.min,
            heard: Arc::new(Heard {
                own: name(own).name(),
                members: usize::from(VOTERS) - 1,
                pops: pop.views.iter().map(heard).collect(),
            }),
            told: matches!(pop.stands, Stands::Draining | Stands::Held).then_some(u64::from(pop.told)),
            dark_since: None,
        }
    }

    fn may_fail(&self, own: u8, pop: &Pop) -> bool {
        let failure = failure(own);
        let want = Want::Fail { failure: &failure, proven: true };
        // Alone with a proven fault it leaves, by the rules; that is no matter of votes and views.
        !pop.views.is_empty() && self.fact(own, pop).may_leave(want, *NOW) == Outlook::Spared
    }
}

impl Pop {
    fn turn(&mut self, stands: Stands) {
        let leaves = matches!(stands, Stands::Draining | Stands::Held);
        (self.stands, self.revision) = (stands, self.revision + 1);
        if leaves {
            self.told = self.revision;
        }
    }

    fn announces(&self) -> bool {
        matches!(self.stands, Stands::Announced | Stands::Draining | Stands::Held)
    }
}

impl Model for Fleet {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let views = |own: u8| {
            let stands = |other| if other < POPS { Stands::Announced } else { Stands::Drained };
            (0..VOTERS).filter(|other| *other != own).map(|other| (other, (stands(other), 1, 1))).collect()
        };
        let pop = |own: u8| Pop {
            stands: if own < POPS { Stands::Announced } else { Stands::Drained },
            revision: 1,
            told: 0,
            permits: 0,
            asks: None,
            holds: None,
            views: views(own),
        };
        let fresh = Voter::new(Some(&Voter::default().octets()));
        vec![State {
            pops: (0..VOTERS).map(pop).collect(),
            voters: vec![fresh; usize::from(VOTERS)],
            heartbeats: BTreeMap::new(),
            asked: BTreeSet::new(),
            granted: BTreeSet::new(),
            said: BTreeSet::new(),
            left: self.bounds,
            refused: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        for (own, pop) in (0..).zip(&state.pops) {
            if pop.stands == Stands::Crashed {
                let seen =
                    (0..VOTERS).filter(|other| state.pops[usize::from(*other)].views.contains_key(&own));
                actions.extend(seen.map(|other| Step::Forget(other, own)));
                continue;
            }
            for other in (0..VOTERS).filter(|other| *other != own) {
                if state.pops[usize::from(other)].stands == Stands::Crashed {
                    continue;
                }
                let knows = pop.views.get(&other).map_or(0, |(_, revision, _)| *revision);
                if state.heartbeats.get(&(own, other)) != Some(&(pop.stands, pop.revision, knows)) {
                    actions.push(Step::Beat(own, other));
                }
                if state.heartbeats.contains_key(&(other, own)) {
                    actions.push(Step::Hear(own, other));
                }
            }
            match pop.stands {
                Stands::Announced => {
                    match &pop.asks {
                        Some(_) => actions.push(Step::GiveUp(own)),
                        None if state.left.drains > 0 => actions.push(Step::Drain(own)),
                        None => {}
                    }
                    if state.left.failures > 0 {
                        actions.push(Step::Fail(own));
                    }
                    if state.left.crashes > 0 {
                        actions.push(Step::Crash(own));
                    }
                }
                Stands::Draining => {
                    actions.push(Step::Leave(own));
                    if state.left.returns > 0 {
                        actions.push(Step::Undrain(own));
                    }
                }
                Stands::Drained if own < POPS && state.left.returns > 0 => actions.push(Step::Undrain(own)),
                Stands::Held => {
                    actions.push(Step::Retry(own));
                    if state.left.returns > 0 {
                        actions.push(Step::Heal(own));
                    }
                }
                Stands::Failed if state.left.returns > 0 => actions.push(Step::Heal(own)),
                Stands::Drained | Stands::Failed | Stands::Crashed => {}
            }
        }
        let lives = |voter: &u8| state.pops[usize::from(*voter)].stands != Stands::Crashed;
        for voter in (0..VOTERS).filter(lives) {
            actions.extend(state.asked.iter().map(|&(pop, permit)| Step::Vote { voter, pop, permit }));
            let told = |&(pop, up_to, holds): &(u8, u8, Option<u8>)| Step::Told { voter, pop, up_to, holds };
            actions.extend(state.said.iter().map(told));
        }
        let granted = state.granted.iter().filter(|(_, pop, permit)| {
            let asks = &state.pops[usize::from(*pop)].asks;
            asks.as_ref().is_some_and(|(asked, _)| asked == permit)
        });
        actions.extend(granted.map(|&(voter, pop, permit)| Step::Granted { voter, pop, permit }));
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Beat(from, to) => {
                let pop = &state.pops[usize::from(from)];
                let knows = pop.views.get(&to).map_or(0, |(_, revision, _)| *revision);
                state.heartbeats.insert((from, to), (pop.stands, pop.revision, knows));
            }
            Step::Hear(own, from) => {
                let heartbeat = state.heartbeats.remove(&(from, own))?;
                state.pops[usize::from(own)].views.insert(from, heartbeat);
            }
            Step::Forget(own, crashed) => {
                state.pops[usize::from(own)].views.remove(&crashed);
                state.heartbeats.remove(&(crashed, own));
            }
            Step::Drain(own) => {
                state.left.drains -= 1;
                let pop = &mut state.pops[usize::from(own)];
                pop.permits += 1;
                pop.asks = Some((pop.permits, BTreeSet::new()));
                state.asked.insert((own, pop.permits));
            }
            Step::GiveUp(own) => {
                let pop = &mut state.pops[usize::from(own)];
                pop.asks = None;
                state.said.insert((own, pop.permits, pop.holds));
            }
            Step::Vote { voter, pop, permit: number } => {
                let word = Word::Ask { prefix: prefix(), permit: permit(number), min_announcers: self.min };
                match vote(&mut state, voter, pop, &word) {
                    Reply::Granted => drop(state.granted.insert((voter, pop, number))),
                    _ => state.refused = true,
                }
            }
            Step::Granted { voter, pop, permit } => {
                let pop = &mut state.pops[usize::from(pop)];
                let (_, by) = pop.asks.as_mut()?;
                by.insert(voter);
                if by.len() > usize::from(VOTERS / 2) {
                    (pop.asks, pop.holds) = (None, Some(permit));
                    // It may have failed while it was asking.
                    if pop.stands == Stands::Announced {
                        pop.turn(Stands::Draining);
                    }
                }
            }
            Step::Told { voter, pop, up_to, holds } => {
                let permits = holds.map(|number| (prefix(), permit(number))).into_iter().collect();
                vote(&mut state, voter, pop, &Word::Holds { up_to: permit(up_to), permits });
            }
            Step::Leave(own) => {
                let pop = &state.pops[usize::from(own)];
                if self.fact(own, pop).may_leave(Want::Drain, *NOW) != Outlook::Spared {
                    return None;
                }
                state.pops[usize::from(own)].turn(Stands::Drained);
            }
            Step::Undrain(own) => {
                state.left.returns -= 1;
                let pop = &mut state.pops[usize::from(own)];
                pop.turn(Stands::Announced);
                pop.holds = None;
                state.said.insert((own, pop.permits, None));
            }
            Step::Fail(own) => {
                state.left.failures -= 1;
                let spared = self.may_fail(own, &state.pops[usize::from(own)]);
                state.pops[usize::from(own)].turn(if spared { Stands::Failed } else { Stands::Held });
            }
            Step::Retry(own) => {
                if !self.may_fail(own, &state.pops[usize::from(own)]) {
                    return None;
                }
                state.pops[usize::from(own)].turn(Stands::Failed);
            }
            Step::Heal(own) => {
                state.left.returns -= 1;
                state.pops[usize::from(own)].turn(Stands::Announced);
            }
            Step::Crash(own) => {
                state.left.crashes -= 1;
                state.pops[usize::from(own)].stands = Stands::Crashed;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ENOUGH, |model: &Self, state: &State| {
                let counts = |pop: &&Pop| pop.announces() || pop.stands == Stands::Crashed;
                state.pops.iter().filter(counts).count() >= model.min as usize
            }),
            Property::sometimes(DRAINED, |_, state: &State| {
                state.pops[..usize::from(POPS)].iter().any(|pop| pop.stands == Stands::Drained)
            }),
            Property::sometimes(FAILED, |_, state: &State| {
                state.pops.iter().any(|pop| pop.stands == Stands::Failed)
            }),
            Property::sometimes(HELD, |_, state: &State| {
                state.pops.iter().any(|pop| pop.stands == Stands::Held)
            }),
            Property::sometimes(REFUSED, |_, state: &State| state.refused),
        ]
    }
}

/// As the driver does: by what the voter hears, and how it stands itself.
fn vote(state: &mut State, voter: u8, from: u8, word: &Word) -> Reply {
    let own = &state.pops[usize::from(voter)];
    let announced = own.views.iter().filter(|(_, (stands, ..))| *stands == Stands::Announced);
    let mut announcing: BTreeSet<Origin> = announced.map(|(other, _)| name(*other)).collect();
    if own.stands == Stands::Announced {
        announcing.insert(name(voter));
    }
    let members = (0..VOTERS).map(name).collect();
    let known = Known { members: &members, announcing: &announcing };
    state.voters[usize::from(voter)].handle(&name(from), word, known).reply
}
