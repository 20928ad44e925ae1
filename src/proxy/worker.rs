//! One worker thread: opens the doors of the plan, keeps its wheel turning, and lets connections be.
#![expect(clippy::disallowed_methods, reason = "driver: owns listeners and the clock of a worker")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ProxyError;
use super::access::Sampler;
use super::door::{self, Opened};
use super::plan::{DoorKey, Plan};
use super::pulse::Wrist;
use super::roll::Roll;
use super::tally::Tally;
use super::totals::Totals;
use super::wheel::{TICK, Wheel};
use crate::catalog::view::View;
use crate::observe::status::traffic::RollCall;
use crate::supervise::local::spawn_for_the_thread;

/// How long nothing may be open before a worker that is told to stop believes that nothing comes any more.
const QUIET: Duration = Duration::from_millis(50);
/// A door that could not be opened is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What one worker's tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) index: usize,
    pub(super) view: RefCell<Arc<View>>,
    pub(super) plan: RefCell<Arc<Plan>>,
    pub(super) totals: Arc<Totals>,
    pub(super) wheel: Rc<Wheel>,
    pub(super) roll: Rc<Roll>,
    pub(super) sampler: Sampler,
    started: Instant,
    /// The time of the last tick.
    now: Cell<Instant>,
    dice: Cell<u64>,
}

impl Shared {
    /// The counts of a service of the plan.
    pub(super) fn tally(&self, service: &str) -> Option<Arc<Tally>> {
        self.plan.borrow().tallies.get(service).map(Arc::clone)
    }

    /// The time to within a tick, for what is only shown.
    pub(super) fn coarse_now(&self) -> Instant {
        self.now.get()
    }

    /// The process's clock, in milliseconds.
    pub(super) fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }

    /// A number that nobody can foresee well; not for secrets.
    pub(super) fn dice(&self) -> u64 {
        // xorshift64*: never 0.
        let mut state = self.dice.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.dice.set(state);
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    index: usize,
    plan: watch::Receiver<Arc<Plan>>,
    view: watch::Receiver<Arc<View>>,
    totals: Arc<Totals>,
    asked: mpsc::Receiver<RollCall>,
    wrist: Wrist,
    started: Instant,
}

impl Worker {
    /// `started` is the zero of the process's clock, the same for all.
    #[must_use]
    pub fn new(
        index: usize,
        plan: watch::Receiver<Arc<Plan>>,
        view: watch::Receiver<Arc<View>>,
        totals: Arc<Totals>,
        asked: mpsc::Receiver<RollCall>,
        wrist: Wrist,
        started: Instant,
    ) -> Self {
        Self { index, plan, view, totals, asked, wrist, started }
    }

    /// Serves until `stop`; then goes on while something is open, for as long as the plan allows, and resets the rest.
    ///
    /// # Errors
    /// [`ProxyError::Gone`] when the owner of the plan or of the view has ended.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ProxyError> {
        let Self { index, mut plan, mut view, totals, mut asked, wrist, started } = self;
        spawn_for_the_thread(wrist.relay()?);
        let seed =
            (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ started.elapsed().as_nanos() as u64;
        let shared = Rc::new(Shared {
            index,
            view: RefCell::new(view.borrow_and_update().clone()),
            plan: RefCell::new(plan.borrow_and_update().clone()),
            totals,
            wheel: Rc::default(),
            roll: Rc::default(),
            sampler: Sampler::new(started),
            started,
            now: Cell::new(Instant::now()),
            dice: Cell::new(seed | 1),
        });
        let mut doors = Doors::default();
        doors.follow(&shared);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = view.changed() => {
                    changed.map_err(|_| ProxyError::Gone("catalog"))?;
                    shared.view.replace(view.borrow_and_update().clone());
                }
                changed = plan.changed() => {
                    changed.map_err(|_| ProxyError::Gone("configuration"))?;
                    shared.plan.replace(plan.borrow_and_update().clone());
                    doors.follow(&shared);
                }
                Some(RollCall { most, reply }) = asked.recv() => {
                    // Whoever went away needs no answer.
                    drop(reply.send(shared.roll.list(most, index, Instant::now())));
                }
                _ = tick.tick() => {
                    shared.now.set(Instant::now());
                    shared.wheel.tick();
                    doors.retry(&shared);
                }
            }
        }
        let patience = shared.plan.borrow().limits.drain;
        let until = Instant::now() + patience;
        let mut quiet_since = Instant::now();
        while Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
            shared.wheel.tick();
            let now = Instant::now();
            if shared.totals.open() > 0 {
                quiet_since = now;
            } else if now - quiet_since >= QUIET {
                break;
            }
        }
        // Listeners close last; what is still open is reset with the runtime.
        Ok(())
    }
}

/// The doors of one worker.
#[derive(Debug, Default)]
struct Doors {
    open: BTreeMap<DoorKey, Opened>,
    /// Doors that the kernel refused, and since when.
    refused: BTreeMap<DoorKey, Instant>,
}

impl Doors {
    /// Closes doors that left the plan, opens new ones, and tells the others what changed for them.
    fn follow(&mut self, shared: &Rc<Shared>) {
        let plan = shared.plan.borrow().clone();
        self.open.retain(|key, _| plan.doors.contains_key(key));
        self.refused.retain(|key, _| plan.doors.contains_key(key));
        for (key, wanted) in &plan.doors {
            if let Some(opened) = self.open.get_mut(key) {
                opened.change(Arc::clone(wanted));
                continue;
            }
            match door::open(shared, Arc::clone(wanted)) {
                Ok(opened) => {
                    if self.refused.remove(key).is_some() {
                        wanted.standing.explain(None);
                    }
                    self.open.insert(*key, opened);
                }
                Err(error) => {
                    wanted.standing.explain(Some(error.to_string()));
                    if self.refused.insert(*key, Instant::now()).is_none() {
                        warn!(door = %key, worker = shared.index, "cannot listen: {error}; it is tried again every second");
                    }
                }
            }
        }
    }

    fn retry(&mut self, shared: &Rc<Shared>) {
        if self.refused.values().any(|since| since.elapsed() >= TRY_AGAIN) {
            self.follow(shared);
        }
    }
}
