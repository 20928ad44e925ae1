//! The ladder of a drain: de-prefer → wait until traffic is gone, or the deadline → withdraw → serve
//! what still arrives → close.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fleet::{Hold, Outlook};
use crate::config::anycast::{AnycastPrefix, Drain};
use crate::observe::journal::CauseId;

/// What is measured at most this long ago is believed.
const FRESH: Duration = Duration::from_secs(3);

/// An operator's order to drain one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The operator's words; may be empty.
    pub reason: String,
    /// When it was given. An order given again keeps its ladder, with another deadline or reason.
    pub begun: Instant,
    /// Withdrawn at the latest.
    pub deadline: Instant,
    /// It was given to an earlier process: the end of that one has withdrawn the prefix already.
    pub resumed: bool,
    /// Even if the fleet needs it announced.
    pub force: bool,
    pub cause: CauseId,
}

/// The traffic of one prefix, as it was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flows {
    pub open: u64,
    pub new_per_second: f64,
    pub at: Instant,
}

/// The traffic of every prefix that drains.
pub type Measured = BTreeMap<AnycastPrefix, Flows>;

/// How far a drain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Announced, asking neighbors to look elsewhere (RFC 8326).
    DePreferred,
    /// Withdrawn; what still arrives is served.
    Withdrawn,
    /// What was left has been closed.
    Closed,
}

impl Step {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DePreferred => "de-preferred",
            Self::Withdrawn => "withdrawn",
            Self::Closed => "closed",
        }
    }
}

/// Why the first step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// There was nothing to de-prefer.
    AtOnce,
    Quiet,
    Deadline,
}

/// One prefix on its way down.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    order: Order,
    step: Step,
    /// Since when the present step.
    since: Instant,
    left: Left,
    quiet_since: Option<Instant>,
    flows: Option<Flows>,
    waits: Option<Hold>,
}

impl Ladder {
    /// Begins. A prefix that is not announced is withdrawn at once.
    #[must_use]
    pub fn new(order: Order, announced: bool, now: Instant) -> Self {
        let step = if announced && !order.resumed { Step::DePreferred } else { Step::Withdrawn };
        Self { order, step, since: now, left: Left::AtOnce, quiet_since: None, flows: None, waits: None }
    }

    /// Takes the order as it stands now.
    pub fn handle_order(&mut self, order: &Order) {
        self.order = order.clone();
    }

    /// Takes what was measured.
    pub fn handle_flows(&mut self, flows: Flows) {
        self.flows = Some(flows);
    }

    /// Climbs down as far as it may; `fleet` says whether the others can do without it. True if a step was taken.
    pub fn handle_timeout(&mut self, bounds: &Drain, fleet: impl FnOnce() -> Outlook, now: Instant) -> bool {
        let before = self.step;
        self.waits = None;
        self.flows = self.fresh(now);
        if self.step == Step::DePreferred {
            let is_quiet = self.flows.is_some_and(|flows| {
                flows.open <= u64::from(bounds.open_flows)
                    && flows.new_per_second <= f64::from(bounds.new_flows)
            });
            self.quiet_since = if is_quiet { self.quiet_since.or(Some(now)) } else { None };
            let long_enough = |since| now.saturating_duration_since(since) >= bounds.quiet_for;
            let left = if self.quiet_since.is_some_and(long_enough) {
                Some(Left::Quiet)
            } else {
                (now >= self.order.deadline).then_some(Left::Deadline)
            };
            if let Some(left) = left {
                match fleet() {
                    Outlook::Needed(hold) if !self.order.force => self.waits = Some(hold),
                    _ => self.go(Step::Withdrawn, left, now),
                }
            }
        }
        if self.step == Step::Withdrawn && now >= self.since + bounds.linger {
            // Whoever ends inside the deadline is not cut off.
            let is_empty = self.flows.is_some_and(|flows| flows.open == 0);
            if is_empty || now >= self.order.deadline {
                self.go(Step::Closed, self.left, now);
            }
        }
        self.step != before
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do without another measurement.
    #[must_use]
    pub fn next_deadline(&self, bounds: &Drain) -> Option<Instant> {
        match self.step {
            Step::DePreferred => {
                let quiet = self.quiet_since.map(|since| since + bounds.quiet_for);
                quiet.into_iter().chain([self.order.deadline]).min()
            }
            Step::Withdrawn => {
                let served = self.since + bounds.linger;
                let is_empty = self.flows.is_some_and(|flows| flows.open == 0 && flows.at + FRESH >= served);
                Some(if is_empty { served } else { served.max(self.order.deadline) })
            }
            Step::Closed => None,
        }
    }

    /// The order behind it.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// How far it has come.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Why it is not withdrawn, although its time has come.
    #[must_use]
    pub fn waits(&self) -> Option<&Hold> {
        self.waits.as_ref()
    }

    /// Since when.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What ended the first step; meaningful after it.
    #[must_use]
    pub fn left(&self) -> Left {
        self.left
    }

    /// The last measurement, while it is fresh.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Option<Flows> {
        self.flows.filter(|flows| now.saturating_duration_since(flows.at) <= FRESH)
    }

    fn go(&mut self, step: Step, left: Left, now: Instant) {
        self.step = step;
        self.left = left;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::journal::CauseIds;

    fn order(now: Instant, deadline: u64) -> Order {
        let cause = CauseIds::new(1, 0).next_id();
        let deadline = now + Duration::from_secs(deadline);
        Order { reason: "maintenance".to_owned(), begun: now, deadline, resumed: false, force: false, cause }
    }

    fn bounds() -> Drain {
        Drain {
            new_flows: 2,
            open_flows: 10,
            quiet_for: Duration::from_secs(2),
            linger: Duration::from_secs(5),
            ..Drain::default()
        }
    }

    fn flows(open: u64, new_per_second: f64, at: Instant) -> Flows {
        Flows { open, new_per_second, at }
    }

    /// Second by second: what is measured, and the step that follows.
    fn climb(ladder: &mut Ladder, start: Instant, seen: &[(u64, f64)]) -> Vec<Step> {
        let seconds = (0..).map(|second| start + Duration::from_secs(second));
        let step = |(now, &(open, new)): (Instant, &(u64, f64))| {
            ladder.handle_flows(flows(open, new, now));
            ladder.handle_timeout(&bounds(), || Outlook::Spared, now);
            ladder.step()
        };
        seconds.zip(seen).map(step).collect()
    }

    #[test]
    fn it_waits_until_traffic_is_gone_and_stays_gone() {
        use Step::{Closed, DePreferred, Withdrawn};
        let now = Instant::now();
        let mut ladder = Ladder::new(order(now, 300), true, now);
        let seen = [
            (1000, 50.0),
            (10, 2.0),
            (11, 0.0),
            (10, 0.0),
            (9, 2.0),
            (5, 0.0),
            (5, 0.0),
            (4, 0.0),
            (3, 0.0),
            (2, 0.0),
            (1, 0.0),
            (0, 0.0),
        ];
        let steps = climb(&mut ladder, now, &seen);
        assert_eq!(steps[..5], [DePreferred; 5]);
        // Quiet from second 3 on: withdrawn at 5; five seconds later one flow is still open.
        assert_eq!(steps[5..11], [Withdrawn; 6]);
        assert_eq!((steps[11], ladder.left()), (Closed, Left::Quiet));
    }

    #[test]
    fn the_deadline_ends_the_waiting_and_then_the_serving() {
        let now = Instant::now();
        let mut ladder = Ladder::new(order(now, 4), true, now);
        let steps = climb(&mut ladder, now, &[(1000, 50.0); 11]);
        assert_eq!(steps[3..5], [Step::DePreferred, Step::Withdrawn]);
        assert_eq!(steps[8..10], [Step::Withdrawn, Step::Closed]);
        assert_eq!(ladder.left(), Left::Deadline);
    }

    #[test]
    fn without_a_measurement_nothing_is_quiet() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut ladder = Ladder::new(order(now, 60), true, now);
        ladder.handle_flows(flows(0, 0.0, at(0)));
        assert!(!ladder.handle_timeout(&bounds(), || Outlook::Spared, at(1)));
        // Quiet since second 1, but by second 4 that is old news.
        assert!(!ladder.handle_timeout(&bounds(), || Outlook::Spared, at(4)));
        assert_eq!(ladder.next_deadline(&bounds()), Some(at(60)));
        assert!(ladder.handle_timeout(&bounds(), || Outlook::Spared, at(60)));
        assert_eq!(ladder.step(), Step::Withdrawn);
    }

    #[test]
    fn what_is_empty_already_is_closed_when_it_has_lingered() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut ladder = Ladder::new(order(now, 60), false, now);
        ladder.handle_flows(flows(0, 0.0, at(1)));
        ladder.handle_timeout(&bounds(), || Outlook::Spared, at(1));
        // By second 5 that is no longer believed.
        assert_eq!(ladder.next_deadline(&bounds()), Some(at(60)));
        ladder.handle_flows(flows(0, 0.0, at(3)));
        ladder.handle_timeout(&bounds(), || Outlook::Spared, at(3));
        assert_eq!(ladder.next_deadline(&bounds()), Some(at(5)));
        assert!(ladder.handle_timeout(&bounds(), || Outlook::Spared, at(5)));
        assert_eq!(ladder.step(), Step::Closed);

        let mut late = Ladder::new(order(now, 60), false, now);
        late.handle_flows(flows(0, 0.0, at(3)));
        assert!(!late.handle_timeout(&bounds(), || Outlook::Spared, at(7)));
        assert_eq!(late.next_deadline(&bounds()), Some(at(60)), "never in the past");
    }

    #[test]
    fn a_resumed_order_and_one_for_a_withdrawn_prefix_begin_withdrawn() {
        let now = Instant::now();
        let resumed = Order { resumed: true, ..order(now, 60) };
        assert_eq!(Ladder::new(resumed, true, now).step(), Step::Withdrawn);
        assert_eq!(Ladder::new(order(now, 60), false, now).step(), Step::Withdrawn);
    }

    proptest! {
        /// Whatever is measured: withdrawn by the deadline, never before quiet, closed in the end; and the
        /// next deadline is never slept through.
        #[test]
        fn it_always_arrives(seen in prop::collection::vec((0u64..30, 0.0..5.0f64), 1..40), deadline in 1u64..60) {
            let now = Instant::now();
            let mut ladder = Ladder::new(order(now, deadline), true, now);
            let mut at = now;
            for (open, new) in seen {
                at += Duration::from_millis(700);
                ladder.handle_flows(flows(open, new, at));
                ladder.handle_timeout(&bounds(), || Outlook::Spared, at);
                if ladder.step() == Step::DePreferred {
                    prop_assert!(at < now + Duration::from_secs(deadline));
                } else if ladder.left() == Left::Quiet {
                    prop_assert!(ladder.since() >= now + Duration::from_secs(2));
                }
            }
            for _ in 0..3 {
                let Some(next) = ladder.next_deadline(&bounds()) else { break };
                at = at.max(next);
                ladder.handle_timeout(&bounds(), || Outlook::Spared, at);
            }
            prop_assert_eq!(ladder.step(), Step::Closed);
        }
    }
}
