//! Time limits without a timer for each connection: a table of deadlines, and one coarse tick for all of them.
//!
//! Pure: told the time. One thread's own; a slot is given back when it is dropped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// The time between ticks; whoever drives a wheel calls [`Wheel::tick`] about this often.
pub const TICK: Duration = Duration::from_millis(100);
/// The whole table is looked at once in so many ticks, a slice at each.
const SLICES: u32 = 5;
/// No deadline.
const NEVER: u32 = u32::MAX;

/// The deadlines of one thread's connections.
#[derive(Debug, Default)]
pub struct Wheel {
    /// Ticks since the wheel was made, less those in which its thread stood still.
    now: Cell<u32>,
    /// `now` as the clock has it.
    clock: Cell<u32>,
    sweep: Cell<Sweep>,
    entries: RefCell<Vec<Entry>>,
    free: RefCell<Vec<u32>>,
}

/// One look at the whole table. What is added meanwhile waits for the next, so that a table that grows as fast as it is
/// looked at is looked at from its beginning again all the same.
#[derive(Debug, Clone, Copy, Default)]
struct Sweep {
    next: usize,
    end: usize,
    slice: usize,
}

#[derive(Debug)]
struct Entry {
    deadline: u32,
    waker: Option<Waker>,
}

impl Wheel {
    /// A slot without a deadline.
    #[must_use]
    pub fn slot(self: &Rc<Self>) -> Slot {
        let mut entries = self.entries.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            entries.push(Entry { deadline: NEVER, waker: None });
            u32::try_from(entries.len() - 1).expect("descriptors run out long before")
        });
        entries[index as usize].deadline = NEVER;
        Slot { wheel: Rc::clone(self), index }
    }

    /// Wakes whoever is over its deadline, among a slice of all for each tick that has passed. `age`: of
    /// whatever began no later than the wheel.
    ///
    /// A thread that stood still for longer than a sweep takes was not there to hear its connections: what is more of
    /// that is not counted against them.
    pub fn tick(&self, age: Duration) {
        let clock = ticks(age, u64::div_euclid);
        let passed = clock.saturating_sub(self.clock.get()).min(SLICES);
        self.clock.set(clock.max(self.clock.get()));
        self.now.set(self.now.get().saturating_add(passed));
        for _ in 0..passed {
            self.look_at_a_slice();
        }
    }

    /// Wakes everybody: something has changed that each has to look at.
    pub fn wake_all(&self) {
        // Outside of every borrow, as everywhere here.
        let wakers: Vec<Waker> = self.entries.borrow().iter().filter_map(|it| it.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn look_at_a_slice(&self) {
        let mut sweep = self.sweep.get();
        if sweep.next >= sweep.end {
            let end = self.entries.borrow().len();
            sweep = Sweep { next: 0, end, slice: end.div_ceil(SLICES as usize) };
        }
        let to = sweep.end.min(sweep.next + sweep.slice);
        let mut at = sweep.next;
        while let Some((index, waker)) = self.first_over(at, to) {
            // Outside of every borrow: whoever is woken may do anything, here and now.
            waker.wake();
            at = index + 1;
        }
        self.sweep.set(Sweep { next: to, ..sweep });
    }

    fn first_over(&self, from: usize, to: usize) -> Option<(usize, Waker)> {
        let now = self.now.get();
        let entries = self.entries.borrow();
        let over = |entry: &Entry| if entry.deadline <= now { entry.waker.clone() } else { None };
        entries[from..to].iter().zip(from..).find_map(|(entry, index)| Some((index, over(entry)?)))
    }
}

/// How many ticks that is.
fn ticks(time: Duration, divide: impl Fn(u64, u64) -> u64) -> u32 {
    // Not by as_millis: this is done for each read, and 128 bits are slow to divide.
    let per_second = 1_000_000_000 / TICK.as_nanos() as u64;
    let rest = divide(u64::from(time.subsec_nanos()), TICK.as_nanos() as u64);
    u32::try_from(time.as_secs().saturating_mul(per_second).saturating_add(rest)).unwrap_or(NEVER)
}

/// One connection's deadline.
#[derive(Debug)]
pub struct Slot {
    wheel: Rc<Wheel>,
    index: u32,
}

impl Slot {
    /// Sets the deadline to so long from now; zero: none. It is kept to within a second and a tick, and early by no more
    /// than the tick before was late.
    pub fn set(&self, after: Duration) {
        let deadline = match ticks(after, u64::div_ceil) {
            0 => NEVER,
            // One more: the tick that is now has begun already.
            ticks => self.wheel.now.get().saturating_add(ticks).saturating_add(1),
        };
        self.wheel.entries.borrow_mut()[self.index as usize].deadline = deadline;
    }

    /// Whether the deadline has passed; if not, the task of `context` is woken when it has.
    #[must_use]
    pub fn is_over(&self, context: &Context<'_>) -> bool {
        let mut entries = self.wheel.entries.borrow_mut();
        let entry = &mut entries[self.index as usize];
        if entry.deadline <= self.wheel.now.get() {
            return true;
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            let old = entry.waker.replace(context.waker().clone());
            drop(entries);
            // Outside of every borrow, as below.
            drop(old);
        }
        false
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut entries = self.wheel.entries.borrow_mut();
        let entry = &mut entries[self.index as usize];
        let waker = entry.waker.take();
        entry.deadline = NEVER;
        drop(entries);
        self.wheel.free.borrow_mut().push(self.index);
        // Outside of every borrow: the last waker of a task may drop that task, with more slots.
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A wheel and the time that has passed.
    #[derive(Default)]
    struct Clocked(Rc<Wheel>, Duration);

    impl Clocked {
        fn pass(&mut self, ticks: u32) {
            for _ in 0..ticks {
                self.1 += TICK;
                self.0.tick(self.1);
            }
        }
    }

    #[test]
    fn a_deadline_wakes_not_early_and_within_a_second() {
        let mut time = Clocked::default();
        let slots: Vec<_> = (0..1_000).map(|_| time.0.slot()).collect();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        slots[777].set(Duration::from_secs(3));
        assert!(!slots[777].is_over(&context));
        time.pass(30);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert!(!slots[777].is_over(&context));
        time.pass(10);
        assert!(count.0.load(Ordering::Relaxed) >= 1);
        assert!(slots[777].is_over(&context));
        slots[777].set(Duration::from_secs(1));
        assert!(!slots[777].is_over(&context));
        slots[777].set(Duration::ZERO);
        time.pass(100);
        assert!(!slots[777].is_over(&context));
    }

    #[test]
    fn slots_are_used_again_without_their_past() {
        let mut time = Clocked::default();
        let first = time.0.slot();
        // The shortest time is one, too.
        first.set(Duration::from_nanos(1));
        time.pass(5);
        assert!(first.is_over(&Context::from_waker(Waker::noop())));
        drop(first);
        let second = time.0.slot();
        assert!(!second.is_over(&Context::from_waker(Waker::noop())));
        assert_eq!(time.0.entries.borrow().len(), 1);
    }

    #[test]
    fn time_is_the_clocks_and_not_the_number_of_calls() {
        let wheel = Rc::new(Wheel::default());
        let context = Context::from_waker(Waker::noop());
        let slot = wheel.slot();
        slot.set(Duration::from_secs(1));
        for ms in 0..1_000 {
            wheel.tick(Duration::from_millis(ms));
            assert!(!slot.is_over(&context));
        }
        wheel.tick(Duration::from_millis(1_100));
        assert!(slot.is_over(&context));
        // A minute in which the thread stood still is no minute of silence.
        slot.set(Duration::from_secs(1));
        wheel.tick(Duration::from_secs(60));
        assert!(!slot.is_over(&context));
        wheel.tick(Duration::from_secs(59));
        wheel.tick(Duration::from_secs(61));
        assert!(!slot.is_over(&context));
        wheel.tick(Duration::from_secs(62));
        assert!(slot.is_over(&context));
    }

    #[test]
    fn a_tick_looks_at_a_bounded_part_of_a_large_table() {
        const MANY: usize = 1_000_000;
        let mut time = Clocked::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        let slots: Vec<_> = (0..MANY).map(|_| time.0.slot()).collect();
        for slot in &slots {
            slot.set(TICK);
            assert!(!slot.is_over(&context));
        }
        time.pass(1);
        let mut before = count.0.load(Ordering::Relaxed);
        assert_eq!(before, 0);
        for _ in 0..SLICES {
            time.pass(1);
            let now = count.0.load(Ordering::Relaxed);
            assert!(now - before <= MANY / SLICES as usize);
            before = now;
        }
        // The first slice was looked at one tick before all of this was over.
        assert_eq!(before, MANY);
    }

    /// Ends its own connection when it is woken, and begins another.
    struct Hasty(std::sync::Mutex<usize>);

    thread_local! {
        static HELD: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
    }

    impl Wake for Hasty {
        fn wake(self: Arc<Self>) {
            let ended = HELD.with_borrow_mut(Vec::pop);
            if let Some(ended) = ended {
                *self.0.lock().unwrap() += 1;
                let next = ended.wheel.slot();
                drop(ended);
                drop(next);
            }
        }
    }

    #[test]
    fn whoever_is_woken_may_use_the_wheel() {
        let mut time = Clocked::default();
        let hasty = Arc::new(Hasty(std::sync::Mutex::new(0)));
        let waker = Waker::from(Arc::clone(&hasty));
        for _ in 0..10 {
            let slot = time.0.slot();
            slot.set(TICK);
            assert!(!slot.is_over(&Context::from_waker(&waker)));
            HELD.with_borrow_mut(|held| held.push(slot));
        }
        time.pass(20);
        assert_eq!(*hasty.0.lock().unwrap(), 10);
    }

    #[test]
    fn an_entry_is_small() {
        // With its place in the list of free ones: 28.
        assert!(size_of::<Entry>() <= 24);
    }

    /// What happens to a wheel.
    #[derive(Debug, Clone)]
    enum Event {
        Begin(u16),
        Set(Index, u16),
        End(Index),
        Pass(u8),
        /// So many connections at once, with the same time.
        Crowd(u8, u16),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<u16>().prop_map(|ms| Event::Begin(ms % 5_000)),
            (any::<Index>(), any::<u16>()).prop_map(|(at, ms)| Event::Set(at, ms % 5_000)),
            any::<Index>().prop_map(Event::End),
            (0u8..30).prop_map(Event::Pass),
            (any::<u8>(), any::<u16>()).prop_map(|(many, ms)| Event::Crowd(many, ms % 5_000)),
        ]
    }

    /// A connection as it should be.
    struct Model {
        slot: Slot,
        /// In ticks; None: never.
        earliest: Option<u32>,
        woken: Arc<Count>,
    }

    impl Model {
        fn new(wheel: &Rc<Wheel>, now: u32, ms: u16) -> Self {
            let mut model = Self { slot: wheel.slot(), earliest: None, woken: Arc::default() };
            model.set(now, ms);
            model
        }

        fn set(&mut self, now: u32, ms: u16) {
            self.slot.set(Duration::from_millis(ms.into()));
            self.earliest = (ms > 0).then(|| now + u32::from(ms.div_ceil(100)));
            self.woken = Arc::default();
            let waker = Waker::from(Arc::clone(&self.woken));
            assert!(!self.slot.is_over(&Context::from_waker(&waker)));
        }

        /// Woken not before its time, and within a second after it.
        fn check(&self, now: u32) {
            let woken = self.woken.0.load(Ordering::Relaxed) > 0;
            match self.earliest {
                None => assert!(!woken),
                Some(earliest) if now <= earliest => assert!(!woken, "woken at {now}, due at {earliest}"),
                Some(earliest) if now > earliest + 10 => {
                    assert!(woken, "not woken at {now}, due at {earliest}");
                }
                Some(_) => {}
            }
        }
    }

    proptest! {
        #[test]
        fn a_wheel_does_what_timers_would(events in prop::collection::vec(event(), 0..120)) {
            let mut time = Clocked::default();
            let mut all: Vec<Model> = Vec::new();
            let mut now = 0;
            for event in events {
                match event {
                    Event::Begin(ms) => all.push(Model::new(&time.0, now, ms)),
                    Event::Crowd(many, ms) => all.extend((0..many).map(|_| Model::new(&time.0, now, ms))),
                    Event::Set(at, ms) if !all.is_empty() => {
                        let at = at.index(all.len());
                        all[at].set(now, ms);
                    }
                    Event::End(at) if !all.is_empty() => drop(all.swap_remove(at.index(all.len()))),
                    Event::Set(..) | Event::End(_) => {}
                    Event::Pass(ticks) => {
                        for _ in 0..ticks {
                            time.pass(1);
                            now += 1;
                            all.iter().for_each(|model| model.check(now));
                        }
                    }
                }
            }
        }
    }
}
