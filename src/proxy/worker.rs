//! One worker thread: opens the doors of the plan, keeps its wheel turning, and lets connections be.
#![expect(clippy::disallowed_methods, reason = "driver: owns listeners and the clock of a worker")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::ProxyError;
use super::access::Sampler;
use super::door;
use super::plan::{Door, DoorKey, Plan};
use super::pulse::Wrist;
use super::roll::Roll;
use super::tally::Tally;
use super::totals::Totals;
use super::udp;
use super::wheel::{TICK, Wheel};
use crate::catalog::traffic::Closing;
use crate::catalog::view::View;
use crate::config::listen::Protocol;
use crate::observe::status::traffic::RollCall;
use crate::supervise::lease::Board;
use crate::supervise::local::spawn_for_the_thread;
use crate::sys::datagram::Batch;

/// How long nothing may be open before a worker that is told to stop believes that nothing comes any more.
const QUIET: Duration = Duration::from_millis(50);
/// How long connections may take to end once they are told to.
const LAST_WORDS: Duration = Duration::from_millis(20);
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
    /// What came before is to be closed, by address; and everything, once the process goes.
    closing: RefCell<Arc<Closing>>,
    is_leaving: Cell<bool>,
    /// Where this worker's lease stands.
    board: Option<Arc<Board>>,
    /// Borrowed between two awaits only.
    pub(super) batch: RefCell<Batch>,
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

    /// Something was done for a client.
    pub(super) fn serve(&self) {
        if let Some(board) = &self.board {
            board.serve(self.index);
        }
    }

    /// Whether a connection to this address that began then is to be closed.
    pub(super) fn is_closing(&self, address: IpAddr, began: Instant) -> bool {
        self.is_leaving.get() || self.closing.borrow().get(&address).is_some_and(|before| began < *before)
    }

    /// Whether the process takes its leave, and all that is still open with it.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
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
    closing: watch::Receiver<Arc<Closing>>,
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
        closing: watch::Receiver<Arc<Closing>>,
        started: Instant,
    ) -> Self {
        Self { index, plan, view, totals, asked, wrist, closing, started }
    }

    /// Serves until `stop`; then goes on while something is open, for as long as the plan allows, and resets the rest.
    ///
    /// # Errors
    /// [`ProxyError::Gone`] when the owner of the plan or of the view has ended.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ProxyError> {
        let Self { index, mut plan, mut view, totals, mut asked, wrist, mut closing, started } = self;
        let board = wrist.enroll(index);
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
            closing: RefCell::new(closing.borrow_and_update().clone()),
            is_leaving: Cell::new(false),
            board,
            batch: RefCell::default(),
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
                Ok(()) = closing.changed() => {
                    shared.closing.replace(closing.borrow_and_update().clone());
                    shared.wheel.wake_all();
                }
                Some(RollCall { most, reply }) = asked.recv() => {
                    // Whoever went away needs no answer.
                    drop(reply.send(shared.roll.list(most, index, Instant::now())));
                }
                _ = tick.tick() => {
                    let now = Instant::now();
                    shared.now.set(now);
                    shared.plan.borrow().tickets.handle_time(now);
                    shared.wheel.tick(started.elapsed());
                    doors.retry(&shared);
                }
            }
        }
        let patience = shared.plan.borrow().limits.drain;
        let until = Instant::now() + patience;
        let mut quiet_since = Instant::now();
        while Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
            let now = Instant::now();
            shared.now.set(now);
            shared.wheel.tick(now - started);
            if shared.totals.open() > 0 {
                quiet_since = now;
            } else if now - quiet_since >= QUIET {
                break;
            }
        }
        // Those who are still here are told, each in its turn; then listeners close, and what did not listen is reset.
        shared.is_leaving.set(true);
        shared.wheel.wake_all();
        sleep(LAST_WORDS).await;
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
            match Opened::open(shared, Arc::clone(wanted)) {
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

/// A door of either kind. Dropping it closes it.
#[derive(Debug)]
enum Opened {
    Streams(door::Opened),
    Datagrams(udp::Opened),
}

impl Opened {
    fn open(shared: &Rc<Shared>, wanted: Arc<Door>) -> io::Result<Self> {
        match wanted.key.protocol {
            Protocol::Tcp => door::open(shared, wanted).map(Self::Streams),
            Protocol::Udp => udp::open(shared, wanted).map(Self::Datagrams),
        }
    }

    fn change(&mut self, wanted: Arc<Door>) {
        match self {
            Self::Streams(opened) => opened.change(&wanted),
            Self::Datagrams(opened) => opened.change(wanted),
        }
    }
}
