//! Ends connections on which nothing moves, and keeps what is shown of those on which something does.

use std::rc::Rc;
use std::task::Context;

use crate::config::services::Timeouts;
use crate::proxy::relay::Patience;
use crate::proxy::roll::Entry;
use crate::proxy::wheel::Slot;
use crate::proxy::worker::Shared;

/// One connection's idle time.
#[derive(Debug)]
pub(super) struct Silence {
    slot: Slot,
    timeouts: Timeouts,
    entry: Rc<Entry>,
    shared: Rc<Shared>,
    held: usize,
}

impl Silence {
    pub(super) fn new(shared: &Rc<Shared>, entry: Rc<Entry>, timeouts: Timeouts) -> Self {
        let slot = shared.wheel.slot();
        slot.set(timeouts.idle);
        Self { slot, timeouts, entry, shared: Rc::clone(shared), held: 0 }
    }
}

impl Patience for Silence {
    fn handle_progress(&mut self, half_closed: bool, up: u64, down: u64) {
        self.slot.set(if half_closed { self.timeouts.half_closed } else { self.timeouts.idle });
        self.entry.moved.set(self.shared.coarse_now());
        self.entry.up.set(up);
        self.entry.down.set(down);
    }

    fn may_hold(&mut self, octets: usize) -> bool {
        if octets == self.held {
            return true;
        }
        let all = self.shared.totals.hold(self.held, octets);
        let is_more = octets > self.held;
        self.held = octets;
        !is_more || all <= self.shared.plan.borrow().limits.memory
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.slot.is_over(context)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.shared.totals.hold(self.held, 0);
    }
}
