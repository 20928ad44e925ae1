//! Ends connections on which nothing moves, and keeps what is shown of those on which something does.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use crate::catalog::service::Service;
use crate::proxy::ejection;
use crate::proxy::relay::{Over, Patience};
use crate::proxy::roll::Entry;
use crate::proxy::wheel::Slot;
use crate::proxy::worker::Shared;

/// One connection's idle time.
#[derive(Debug)]
pub(super) struct Silence {
    slot: Slot,
    service: Arc<Service>,
    /// The backend, among the service's.
    index: usize,
    has_served: bool,
    entry: Rc<Entry>,
    shared: Rc<Shared>,
    held: usize,
}

impl Silence {
    pub(super) fn new(shared: &Rc<Shared>, entry: Rc<Entry>, service: Arc<Service>, index: usize) -> Self {
        let slot = shared.wheel.slot();
        slot.set(service.forwarding.timeouts.idle);
        Self { slot, service, index, has_served: false, entry, shared: Rc::clone(shared), held: 0 }
    }
}

impl Patience for Silence {
    fn handle_progress(&mut self, half_closed: bool, up: u64, down: u64) {
        let timeouts = &self.service.forwarding.timeouts;
        self.slot.set(if half_closed { timeouts.half_closed } else { timeouts.idle });
        if down > 0 && !std::mem::replace(&mut self.has_served, true) {
            ejection::served(&self.service, self.index, self.shared.ms(self.shared.coarse_now()));
        }
        self.shared.serve();
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

    fn is_over(&mut self, context: &mut Context<'_>) -> Option<Over> {
        let is_idle = self.slot.is_over(context);
        if self.shared.is_closing(self.entry.door.address.ip(), self.entry.began) {
            return Some(Over::Drained);
        }
        is_idle.then_some(Over::Idle)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.shared.totals.hold(self.held, 0);
    }
}
