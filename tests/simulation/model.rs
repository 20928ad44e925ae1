//! The reference: what a prefix has to be told as, worked out from everything that was ever seen of it.
//!
//! Written from the rules and not from the code. It keeps no state that moves on: each judgement is
//! read off the whole list of looks before it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use edgeproxy::announce::decide::State;
use edgeproxy::announce::drain::{Flows, Left, Step};
use edgeproxy::announce::facts::Leaving;
use edgeproxy::announce::lease::Workers;
use edgeproxy::announce::ledger::Inputs;
use edgeproxy::config::anycast::{Anycast, AnycastPrefix, Damping, Drain, Intent};
use edgeproxy::health::{Position, ServiceHealth};
use edgeproxy::supervise::lease::paths::PathHealth;

/// What is measured longer ago is not believed.
const BELIEVED: Duration = Duration::from_secs(3);

/// Everything that was seen of every prefix since it is in the configuration.
#[derive(Debug, Default)]
pub struct Model(BTreeMap<AnycastPrefix, History>);

#[derive(Debug, Default)]
pub struct History {
    looks: Vec<Look>,
    measured: Option<Flows>,
}

/// One look at a prefix: what was seen, and what follows.
#[derive(Debug, Clone)]
pub struct Look {
    pub at: Instant,
    damping: Option<Damping>,
    drain: Option<Drained>,
    /// What the checks allow.
    allowed: State,
    /// What damping lets through.
    level: State,
    /// The level fell, and neighbors saw it; or a proof broke off, a whole dwell after the last failure.
    failed: bool,
    pub state: State,
    pub reason: &'static str,
}

/// What was seen of a drain.
#[derive(Debug, Clone)]
struct Drained {
    bounds: Drain,
    deadline: Instant,
    resumed: bool,
    /// It is believed that traffic is gone.
    quiet: bool,
    /// It is believed that no flow is open.
    empty: bool,
}

impl Model {
    /// Looks at every prefix.
    pub fn look(&mut self, inputs: &Inputs<'_>, now: Instant) {
        self.0.retain(|prefix, _| inputs.plan.anycast.contains_key(prefix));
        for (prefix, anycast) in &inputs.plan.anycast {
            self.0.entry(*prefix).or_default().look(anycast, inputs, now);
        }
    }

    /// The traffic of a prefix; of interest only while it drains.
    pub fn measure(&mut self, prefix: &AnycastPrefix, flows: Flows) {
        let history = self.0.get_mut(prefix);
        if let Some(history) = history.filter(|h| h.looks.last().is_some_and(|look| look.drain.is_some())) {
            history.measured = Some(flows);
        }
    }

    pub fn of(&self, prefix: &AnycastPrefix) -> Option<&History> {
        self.0.get(prefix)
    }
}

impl History {
    /// The last judgement.
    pub fn last(&self) -> &Look {
        self.looks.last().expect("a history begins with a look")
    }

    /// Since when the state is what it is.
    pub fn since(&self) -> Instant {
        let same = self.looks.iter().rev().take_while(|look| look.state == self.last().state);
        same.last().expect("the last one is the same as itself").at
    }

    /// How far the drain has come, and why its first step ended: more than one answer if both came at once.
    pub fn drain(&self) -> Option<(Step, Vec<Left>)> {
        drain_of(&self.looks)
    }

    fn look(&mut self, anycast: &Anycast, inputs: &Inputs<'_>, now: Instant) {
        let before = self.looks.last();
        let allowed_before = before.map_or(State::Withdrawn, |look| look.allowed);
        let (verdict, rule) = verdict(anycast, inputs, allowed_before, now);
        let (level_before, told_before) =
            before.map_or((State::Withdrawn, false), |look| (look.level, look.state.is_announced()));
        // "As before" is what the last look with an opinion of its own said.
        let allowed = verdict.unwrap_or(allowed_before);
        let mut look = Look {
            at: now,
            damping: anycast.damping,
            drain: None,
            allowed,
            level: self.level(allowed, anycast.damping.as_ref(), now),
            failed: (allowed < level_before && told_before) || self.breaks_off(allowed, anycast, now),
            state: State::Withdrawn,
            reason: rule,
        };
        match inputs.drains.get(&anycast.prefix) {
            Some(order) => {
                let flows = self.measured.filter(|flows| now.saturating_duration_since(flows.at) <= BELIEVED);
                let is_quiet = |flows: &Flows| {
                    flows.open <= anycast.drain.open_flows.into()
                        && flows.new_per_second <= anycast.drain.new_flows.into()
                };
                look.drain = Some(Drained {
                    bounds: anycast.drain.clone(),
                    deadline: order.deadline,
                    resumed: order.resumed,
                    quiet: flows.as_ref().is_some_and(is_quiet),
                    empty: flows.is_some_and(|flows| flows.open == 0),
                });
            }
            None => self.measured = None,
        }
        self.looks.push(look);
        let step = drain_of(&self.looks).map(|(step, _)| step);
        let look = self.looks.last_mut().expect("pushed above");
        if look.level < look.allowed {
            look.reason = "damped";
        }
        // The table of the design, from the top.
        let told = if anycast.state == Intent::Down {
            Some((State::Withdrawn, "operator-down"))
        } else if inputs.leaving == Leaving::Gone {
            Some((State::Withdrawn, "stopping"))
        } else if rule == "lease-expired" {
            Some((State::Withdrawn, rule))
        } else if step > Some(Step::DePreferred) {
            Some((State::Withdrawn, "drained"))
        } else if look.level == State::Withdrawn {
            None
        } else if inputs.leaving == Leaving::Graceful {
            Some((State::Draining, "stopping"))
        } else {
            step.map(|_| (State::Draining, "draining"))
        };
        look.state = told.map_or(look.level, |(state, _)| state);
        look.reason = told.map_or(look.reason, |(_, reason)| reason);
    }

    /// Down at once. Up after a dwell without a break, and then only as far as was allowed all that time.
    fn level(&self, allowed: State, damping: Option<&Damping>, now: Instant) -> State {
        let Some(last) = self.looks.last() else { return allowed };
        if allowed <= last.level {
            return allowed;
        }
        let Some(dwell) = damping.and_then(|damping| self.dwell(damping, now)) else { return allowed };
        let rise = self.looks.iter().rev();
        let rise = rise.take_while(|look| look.allowed > look.level && look.level == last.level);
        let (begun, least) = rise.fold((now, allowed), |(_, least), look| (look.at, least.min(look.allowed)));
        if now - begun >= dwell { least } else { last.level }
    }

    /// Whether a proof ends here before its time, and none has in the dwell before.
    fn breaks_off(&self, allowed: State, anycast: &Anycast, now: Instant) -> bool {
        let Some(last) = self.looks.last() else { return false };
        let Some(damping) = &anycast.damping else { return false };
        let Some(dwell) = self.dwell(damping, now) else { return false };
        let was_rising = last.allowed > last.level;
        let failure = self.looks.iter().rev().find(|look| look.failed);
        was_rising && allowed <= last.level && failure.is_some_and(|look| now - look.at >= dwell)
    }

    /// `min_up` for one failure, doubled with each further one, up to the longest; one failure is forgiven
    /// with each `decay` since the last.
    fn dwell(&self, damping: &Damping, now: Instant) -> Option<Duration> {
        let mut failures: Option<(u32, Instant)> = None;
        for look in self.looks.iter().filter(|look| look.failed) {
            let left = |damping| failures.map_or(0, |(count, at)| forgive(count, at, damping, look.at));
            failures = Some((look.damping.as_ref().map_or(0, |damping| left(damping) + 1), look.at));
        }
        let (count, at) = failures?;
        let count = forgive(count, at, damping, now);
        let doubled = (1..count).fold(damping.min_up, |length, _| damping.max_dwell.min(length * 2));
        (count > 0).then_some(doubled)
    }
}

/// What is left of so many failures. No more of them count than make the longest dwell.
fn forgive(count: u32, mut at: Instant, damping: &Damping, now: Instant) -> u32 {
    let mut longest = 1;
    let mut length = damping.min_up;
    while length < damping.max_dwell {
        length *= 2;
        longest += 1;
    }
    let mut count = count.min(longest);
    while count > 0 && at + damping.decay <= now {
        at += damping.decay;
        count -= 1;
    }
    count
}

/// What the data path has to say about a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// No client comes to it through the proxy.
    ByOthers,
    NotYet,
    InTime,
    No,
}

/// Every worker, and every listener that can be probed, has its say; one that fails is enough.
pub fn served(anycast: &Anycast, inputs: &Inputs<'_>, now: Instant) -> Served {
    let here = |at: &std::collections::BTreeSet<IpAddr>| anycast.addresses.iter().any(|it| at.contains(it));
    let listens = |name: &String| inputs.plan.listens.get(name).map(|listens| (name.clone(), listens));
    let services: Vec<_> =
        anycast.services.iter().filter_map(listens).filter(|(_, listens)| here(&listens.addresses)).collect();
    if services.is_empty() {
        return Served::ByOthers;
    }
    let mut said = vec![match inputs.data_path.workers {
        Workers::Valid => Served::InTime,
        Workers::Unproven { .. } => Served::NotYet,
        Workers::Expired { .. } | Workers::Missing { .. } => Served::No,
    }];
    let bounds = inputs.plan.lease;
    let believed = (bounds.probe_fall + 2) * (bounds.probe_interval + bounds.probe_timeout);
    match &inputs.data_path.paths {
        None => said.push(Served::No),
        Some(paths) if paths.probing => {
            let probed = services.iter().filter(|(_, listens)| here(&listens.probed));
            said.extend(probed.map(|(name, _)| match paths.by_service.get(name) {
                None | Some(PathHealth::Unproven) => Served::NotYet,
                Some(PathHealth::Serving { last }) if now - *last < believed => Served::InTime,
                Some(_) => Served::No,
            }));
        }
        Some(_) => {}
    }
    [Served::No, Served::NotYet].into_iter().find(|it| said.contains(it)).unwrap_or(Served::InTime)
}

/// What the checks say, and by which rule. None: as before.
fn verdict(
    anycast: &Anycast,
    inputs: &Inputs<'_>,
    before: State,
    now: Instant,
) -> (Option<State>, &'static str) {
    let place = |address: &IpAddr| inputs.bound.get(&(*address, anycast.device.clone()));
    let places: Vec<_> = anycast.addresses.iter().map(place).collect();
    let is_missing = places.iter().flatten().any(|status| status.error.is_some());
    let of_service = |name: &String| inputs.view.services.get(name);
    let services: Vec<_> = anycast.services.iter().map(of_service).collect();
    let positions: Vec<_> =
        services.iter().flatten().map(|health| (health.position, health.proven)).collect();
    let any = |position| positions.iter().any(|(p, _)| *p == position);
    let served = served(anycast, inputs, now);
    if is_missing {
        (Some(State::Withdrawn), "address-missing")
    } else if served == Served::No {
        (Some(State::Withdrawn), "lease-expired")
    } else if places.contains(&None) {
        (None, "address-missing")
    } else if now > inputs.view.as_of + inputs.plan.max_age {
        (Some(State::Withdrawn), "health-stale")
    } else if positions.contains(&(Position::Low, true)) {
        (Some(State::Withdrawn), "below-watermark")
    } else if services.contains(&None) {
        (None, "health-unknown")
    } else if any(Position::Low) || served == Served::NotYet {
        (None, "starting")
    } else if any(Position::Between) {
        // What was up stays up until it is low.
        let undecided = services.iter().flatten().any(|it| it.position == Position::Between && !it.serving);
        let has_mark =
            |name: &String| inputs.plan.watermarks.get(name).is_some_and(|it| it.degrade.is_some());
        let is_dim = |(name, health): (&String, &Option<&ServiceHealth>)| {
            health.is_some_and(|it| {
                it.position == Position::BrownOut || it.position == Position::Between && has_mark(name)
            })
        };
        let dim = anycast.services.iter().zip(&services).any(is_dim);
        let up = if dim { State::Degraded } else { State::Announced };
        ((!undecided).then(|| before.max(up)), "between-watermarks")
    } else if any(Position::BrownOut) {
        (Some(State::Degraded), "brown-out")
    } else {
        (Some(State::Announced), "healthy")
    }
}

fn drain_of(looks: &[Look]) -> Option<(Step, Vec<Left>)> {
    let begun = looks.iter().rposition(|look| look.drain.is_none()).map_or(0, |before| before + 1);
    let drain: Vec<(Instant, &Drained)> =
        looks[begun..].iter().filter_map(|look| Some((look.at, look.drain.as_ref()?))).collect();
    let (_, first) = drain.first()?;
    let was_announced = begun > 0 && looks[begun - 1].state.is_announced();
    let (left, why) = if first.resumed || !was_announced {
        (0, vec![Left::AtOnce])
    } else {
        let ends = |look: usize| {
            let (at, seen) = drain[look];
            let quiet = quiet_since(&drain[..=look]).is_some_and(|since| at - since >= seen.bounds.quiet_for);
            let ways = [(quiet, Left::Quiet), (at >= seen.deadline, Left::Deadline)];
            let why: Vec<Left> = ways.into_iter().filter_map(|(is, left)| is.then_some(left)).collect();
            (!why.is_empty()).then_some((look, why))
        };
        let Some(end) = (0..drain.len()).find_map(ends) else { return Some((Step::DePreferred, Vec::new())) };
        end
    };
    let withdrawn_at = drain[left].0;
    let is_closed = drain[left..]
        .iter()
        .any(|(at, seen)| *at >= withdrawn_at + seen.bounds.linger && (seen.empty || *at >= seen.deadline));
    Some((if is_closed { Step::Closed } else { Step::Withdrawn }, why))
}

/// Since when it has been quiet without a break.
fn quiet_since(drain: &[(Instant, &Drained)]) -> Option<Instant> {
    drain.iter().rev().take_while(|(_, seen)| seen.quiet).last().map(|(at, _)| *at)
}
