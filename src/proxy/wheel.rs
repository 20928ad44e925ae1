//! Time limits without a timer for each connection: a table of deadlines, and one coarse tick for all of them.
//!
//! Pure: told the time. One thread's own; a slot is given back when it is dropped.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// The time between ticks; whoever drives a wheel calls [`Wheel::tick`] this often.
pub const TICK: Duration = Duration::from_millis(100);
/// The whole table is looked at once in so many ticks, a slice at each.
const SLICES: usize = 5;
/// No deadline.
const NEVER: u32 = u32::MAX;

/// The deadlines of one thread's connections.
#[derive(Debug, Default)]
pub struct Wheel {
    /// Ticks since the wheel was made.
    now: Cell<u32>,
    cursor: Cell<usize>,
    entries: RefCell<Vec<Entry>>,
    free: RefCell<Vec<u32>>,
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

    /// Wakes everybody: something has changed that each has to look at.
    pub fn wake_all(&self) {
        for entry in self.entries.borrow().iter() {
            if let Some(waker) = &entry.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// A tick: wakes whoever is over its deadline, among a slice of all.
    pub fn tick(&self) {
        self.now.set(self.now.get().saturating_add(1));
        let mut entries = self.entries.borrow_mut();
        let slice = entries.len().div_ceil(SLICES);
        let from = if self.cursor.get() >= entries.len() { 0 } else { self.cursor.get() };
        let to = (from + slice).min(entries.len());
        for entry in &mut entries[from..to] {
            if entry.deadline <= self.now.get()
                && let Some(waker) = &entry.waker
            {
                waker.wake_by_ref();
            }
        }
        self.cursor.set(to);
    }
}

/// One connection's deadline.
#[derive(Debug)]
pub struct Slot {
    wheel: Rc<Wheel>,
    index: u32,
}

impl Slot {
    /// Sets the deadline to so long from now; zero: none. It is kept to within a second, never too early.
    pub fn set(&self, after: Duration) {
        let ticks = u32::try_from(after.as_millis().div_ceil(TICK.as_millis())).unwrap_or(NEVER);
        let deadline =
            if ticks == 0 { NEVER } else { self.wheel.now.get().saturating_add(ticks).saturating_add(1) };
        self.wheel.entries.borrow_mut()[self.index as usize].deadline = deadline;
    }

    /// Whether the deadline has passed; if not, the task of `context` is woken when it has.
    #[must_use]
    pub fn is_over(&self, context: &Context<'_>) -> bool {
        let entry = &mut self.wheel.entries.borrow_mut()[self.index as usize];
        if entry.deadline <= self.wheel.now.get() {
            return true;
        }
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            entry.waker = Some(context.waker().clone());
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

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ticks(wheel: &Wheel, count: u32) {
        (0..count).for_each(|_| wheel.tick());
    }

    #[test]
    fn a_deadline_wakes_not_early_and_within_a_second() {
        let wheel = Rc::new(Wheel::default());
        let slots: Vec<_> = (0..1_000).map(|_| wheel.slot()).collect();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&waker);
        slots[777].set(Duration::from_secs(3));
        assert!(!slots[777].is_over(&context));
        ticks(&wheel, 30);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        assert!(!slots[777].is_over(&context));
        ticks(&wheel, 10);
        assert!(count.0.load(Ordering::Relaxed) >= 1);
        assert!(slots[777].is_over(&context));
        slots[777].set(Duration::from_secs(1));
        assert!(!slots[777].is_over(&context));
        slots[777].set(Duration::ZERO);
        ticks(&wheel, 100);
        assert!(!slots[777].is_over(&context));
    }

    #[test]
    fn slots_are_used_again_without_their_past() {
        let wheel = Rc::new(Wheel::default());
        let first = wheel.slot();
        first.set(Duration::from_millis(1));
        ticks(&wheel, 5);
        assert!(first.is_over(&Context::from_waker(Waker::noop())));
        drop(first);
        let second = wheel.slot();
        assert!(!second.is_over(&Context::from_waker(Waker::noop())));
        assert_eq!(wheel.entries.borrow().len(), 1);
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 24);
    }
}
