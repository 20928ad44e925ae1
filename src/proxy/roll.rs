//! The connections of one worker, for who asks to see them.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::plan::DoorKey;
use super::why::Why;
use crate::observe::status::traffic::ConnectionStatus;

/// One connection as it stands.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) client: Cell<SocketAddr>,
    pub(super) door: DoorKey,
    pub(super) began: Instant,
    pub(super) moved: Cell<Instant>,
    pub(super) service: OnceCell<Arc<str>>,
    pub(super) backend: RefCell<Option<Arc<str>>>,
    /// Why that one.
    pub(super) why: Cell<Option<Why>>,
    pub(super) up: Cell<u64>,
    pub(super) down: Cell<u64>,
}

/// All of a worker's connections.
#[derive(Debug, Default)]
pub(super) struct Roll {
    entries: RefCell<Vec<Option<Rc<Entry>>>>,
    free: RefCell<Vec<usize>>,
}

impl Roll {
    /// Puts one on the roll, until the answer is dropped.
    pub(super) fn enter(self: &Rc<Self>, client: SocketAddr, door: DoorKey, now: Instant) -> Entered {
        let entry = Rc::new(Entry {
            client: Cell::new(client),
            door,
            began: now,
            moved: Cell::new(now),
            service: OnceCell::new(),
            backend: RefCell::new(None),
            why: Cell::new(None),
            up: Cell::new(0),
            down: Cell::new(0),
        });
        let mut entries = self.entries.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            entries.push(None);
            entries.len() - 1
        });
        entries[index] = Some(Rc::clone(&entry));
        Entered { roll: Rc::clone(self), index, entry }
    }

    /// At most so many, the oldest places first.
    pub(super) fn list(&self, most: usize, worker: usize, now: Instant) -> Vec<ConnectionStatus> {
        let entries = self.entries.borrow();
        let show = |entry: &Rc<Entry>| ConnectionStatus {
            client: entry.client.get().to_string(),
            door: entry.door.to_string(),
            service: entry.service.get().map(ToString::to_string),
            backend: entry.backend.borrow().as_ref().map(ToString::to_string),
            why: entry.why.get().map(|why| why.to_string()),
            age_ms: now.saturating_duration_since(entry.began).as_millis() as u64,
            idle_ms: now.saturating_duration_since(entry.moved.get()).as_millis() as u64,
            up_bytes: entry.up.get(),
            down_bytes: entry.down.get(),
            worker,
        };
        entries.iter().flatten().take(most).map(show).collect()
    }
}

/// A place on the roll.
#[derive(Debug)]
pub(super) struct Entered {
    roll: Rc<Roll>,
    index: usize,
    pub(super) entry: Rc<Entry>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.roll.entries.borrow_mut()[self.index] = None;
        self.roll.free.borrow_mut().push(self.index);
    }
}
