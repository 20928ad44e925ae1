//! How many flows are open, and how many have come since the look before.

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use super::{Flow, Look};

/// What a look told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    pub open: usize,
    /// Flows that were not there at the look before, whatever their stage. `None` at the first look: nothing is known.
    /// More than [`super::MOST_KEPT`] flows cannot be told apart: then it is the growth of their number.
    pub new_per_second: Option<f64>,
}

/// Takes look after look at the same addresses.
#[derive(Debug, Default)]
pub struct Census {
    hasher: RandomState,
    last: Option<Seen>,
}

/// What is remembered of a look: 8 octets for each flow that it kept.
#[derive(Debug)]
struct Seen {
    at: Instant,
    /// Sorted, each once.
    flows: Vec<u64>,
    total: usize,
    /// Whether every flow was kept.
    whole: bool,
}

impl Census {
    /// Counts; `now` is when the look was taken.
    pub fn handle_look(&mut self, look: &Look, now: Instant) -> Traffic {
        let mut flows: Vec<_> = look.flows.iter().map(|flow| self.name(flow)).collect();
        flows.sort_unstable();
        flows.dedup();
        let total = look.open + look.ended;
        let seen = Seen { at: now, flows, total, whole: look.flows.len() == total };
        let rate = self.last.as_ref().and_then(|before| {
            let seconds = now.saturating_duration_since(before.at).as_secs_f64();
            (seconds > 0.0).then(|| seen.new_since(before) as f64 / seconds)
        });
        self.last = Some(seen);
        Traffic { open: look.open, new_per_second: rate }
    }

    /// Both ends name a flow. The kernel's own cookie does not: TIME_WAIT has another.
    fn name(&self, flow: &Flow) -> u64 {
        self.hasher.hash_one((flow.local(), flow.remote()))
    }
}

impl Seen {
    fn new_since(&self, before: &Self) -> usize {
        if !self.whole || !before.whole {
            return self.total.saturating_sub(before.total);
        }
        let mut known = before.flows.iter().peekable();
        let is_new = |flow: &&u64| {
            while known.next_if(|known| known < flow).is_some() {}
            known.peek() != Some(flow)
        };
        self.flows.iter().filter(is_new).count()
    }
}

#[cfg(test)]
mod tests;
