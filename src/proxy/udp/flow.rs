//! One client's flow: what it holds from its first datagram until it has been still for long enough.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::datagrams::Reason;
use super::home::Home;
use crate::catalog::service::Service;
use crate::catalog::traffic;
use crate::proxy::admission::Admitted;
use crate::proxy::connection;
use crate::proxy::ejection;
use crate::proxy::end::End;
use crate::proxy::plan::{Door, Standing};
use crate::proxy::roll::Entered;
use crate::proxy::tally::Tally;
use crate::proxy::totals::{Count, Taken};
use crate::proxy::why::Why;
use crate::proxy::worker::Shared;

/// A flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// None between two backends.
    pub(super) home: Option<Home>,
    /// The view in which its home was last looked at.
    pub(super) epoch: u32,
    /// The serial of the backend that refused it, until another has answered.
    pub(super) shunned: Option<u32>,
    entered: Entered,
    tally: Arc<Tally>,
    standing: Arc<Standing>,
    _admitted: Admitted,
    _taken: Taken,
    _counted: traffic::Flow,
}

impl Flow {
    /// A flow without a home.
    ///
    /// # Errors
    /// The bound that leaves no room for it.
    pub(super) fn begin(
        shared: &Shared,
        door: &Door,
        service: &Arc<str>,
        client: SocketAddr,
        now: Instant,
    ) -> Result<Self, Reason> {
        // An answer to ourselves would go round for ever; one to port 0 goes nowhere.
        if client.port() == 0 || client == door.key.address {
            return Err(Reason::Strange);
        }
        let tally = shared.tally(service).ok_or(Reason::NoBackend)?;
        let most = shared.plan.borrow().limits.connections;
        let taken = shared.totals.take(Count::Connections, most).ok_or(Reason::Overloaded)?;
        // Last, so that nobody's allowance is used up for nothing.
        let admitted = door.admission.admit(&door.limits, client.ip(), shared.ms(now))?;
        let entered = shared.roll.enter(client, door.key, now);
        let _ = entered.entry.service.set(Arc::clone(service));
        tally.connections.fetch_add(1, Ordering::Relaxed);
        tally.open.fetch_add(1, Ordering::Relaxed);
        door.standing.open.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            home: None,
            epoch: 0,
            shunned: None,
            entered,
            tally,
            standing: Arc::clone(&door.standing),
            _admitted: admitted,
            _taken: taken,
            _counted: door.flows.begin(),
        })
    }

    /// Who it belongs to.
    pub(super) fn source(&self) -> IpAddr {
        self.entered.entry.client.get().ip()
    }

    /// Moves in.
    pub(super) fn settle(&mut self, home: Home, backend: &Arc<str>, why: Why) {
        self.home = Some(home);
        self.entered.entry.backend.replace(Some(Arc::clone(backend)));
        self.entered.entry.why.set(Some(why));
    }

    /// Moves out because the backend is not there, which is counted against it.
    pub(super) fn flee(&mut self, shared: &Shared, service: &Service) {
        let Some(mut home) = self.home.take() else { return };
        self.shunned = Some(home.tenancy.serial());
        if home.tenancy.lasts(service) {
            connection::blame(shared, service, home.tenancy.index());
        }
    }

    /// Counts what went to the backend.
    pub(super) fn went_up(&mut self, octets: u64, now: Instant) {
        let entry = &self.entered.entry;
        entry.up.set(entry.up.get() + octets);
        entry.moved.set(now);
        if let Some(home) = &mut self.home {
            home.up += octets;
        }
    }

    /// Counts what came from the backend, which is proven by it.
    pub(super) fn came_down(
        &mut self,
        shared: &Shared,
        service: Option<&Service>,
        octets: u64,
        now: Instant,
    ) {
        self.shunned = None;
        let entry = &self.entered.entry;
        if entry.down.get() == 0 {
            self.tally.reach.observe(now.saturating_duration_since(entry.began));
        }
        entry.down.set(entry.down.get() + octets);
        entry.moved.set(now);
        if let Some(home) = &mut self.home {
            if !home.is_proven
                && let Some(service) = service
                && home.tenancy.lasts(service)
            {
                home.is_proven = true;
                ejection::served(service, home.tenancy.index(), shared.ms(now));
            }
            home.down += octets;
        }
    }

    /// Ends it.
    pub(super) fn end(self, shared: &Shared, end: &End, now: Instant) {
        let entry = &self.entered.entry;
        self.tally.end(end.kind);
        self.tally.duration.observe(now.saturating_duration_since(entry.began));
        self.tally.up.fetch_add(entry.up.get(), Ordering::Relaxed);
        self.tally.down.fetch_add(entry.down.get(), Ordering::Relaxed);
        connection::log(shared, entry, end, now);
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.tally.open.fetch_sub(1, Ordering::Relaxed);
        self.standing.open.fetch_sub(1, Ordering::Relaxed);
    }
}
