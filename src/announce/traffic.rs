//! Measures the traffic of prefixes that drain, and closes what is left of it in the end.
#![expect(clippy::disallowed_methods, reason = "driver: asks the kernel for flows, at its own pace")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::drain::{Flows, Measured};
use super::ledger::Watched;
use crate::catalog::traffic::{Closing, FlowBook};
use crate::config::anycast::AnycastPrefix;
use crate::observe::journal::CauseId;
use crate::sys::flows::{self, Census, Flow, Look, Stage};

/// From one look to the next. The kernel walks all its sockets at each.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A look, or the closing of all that is left, takes no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the flows of what drains; idle while nothing does.
pub struct Traffic {
    watched: watch::Receiver<Arc<Vec<Watched>>>,
    measured: watch::Sender<Arc<Measured>>,
    /// What the proxy carries, which it counts better than we can.
    proxied: watch::Receiver<Arc<FlowBook>>,
    /// What the proxy is to close.
    closing: watch::Sender<Arc<Closing>>,
    /// Flows that the proxy had taken in at the look before.
    accepted: BTreeMap<AnycastPrefix, (u64, Instant)>,
    census: BTreeMap<AnycastPrefix, Census>,
    /// Orders whose flows have been closed.
    closed: BTreeSet<(AnycastPrefix, CauseId)>,
    /// The kernel does not let us look; said once.
    blind: bool,
}

impl Traffic {
    /// `watched`: what to look at; `measured`: where to tell. `proxied`: flows that the proxy counts; `closing`: where
    /// it is told to close them.
    #[must_use]
    pub fn new(
        watched: watch::Receiver<Arc<Vec<Watched>>>,
        measured: watch::Sender<Arc<Measured>>,
        proxied: watch::Receiver<Arc<FlowBook>>,
        closing: watch::Sender<Arc<Closing>>,
    ) -> Self {
        Self {
            watched,
            measured,
            proxied,
            closing,
            accepted: BTreeMap::new(),
            census: BTreeMap::new(),
            closed: BTreeSet::new(),
            blind: false,
        }
    }

    /// Runs until `stop`; after the end of the decision there is nothing to do but wait for that.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let watched = self.watched.borrow_and_update().clone();
            if !watched.is_empty() {
                self.look(&watched).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.watched.changed() => if changed.is_err() {
                    return stop.cancelled().await;
                },
                () = sleep(LOOK_EVERY), if !watched.is_empty() => {}
            }
        }
    }

    async fn look(&mut self, watched: &[Watched]) {
        let is_watched = |prefix: &AnycastPrefix| watched.iter().any(|one| one.prefix == *prefix);
        self.census.retain(|prefix, _| is_watched(prefix));
        self.closed.retain(|(prefix, _)| is_watched(prefix));
        self.accepted.retain(|prefix, _| is_watched(prefix));
        let proxied = self.proxied.borrow().clone();
        // One look for all: the kernel walks all its sockets at each.
        let addresses: Vec<_> = watched.iter().flat_map(|one| one.addresses.iter().copied()).collect();
        let looked = timeout(PATIENCE, flows::look(&addresses)).await;
        let all = match looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(all) => all,
            Err(error) => return self.complain(&error),
        };
        let at = Instant::now();
        let mut looks = apart(all, watched, &proxied);
        let mut measured = Measured::new();
        for Watched { prefix, addresses, close } in watched {
            let look = looks.remove(prefix).unwrap_or_default();
            if let Some(order) = *close
                && self.closed.insert((*prefix, order))
            {
                self.close_proxied(addresses, at);
                close_all(*prefix, &look).await;
            }
            let traffic = self.census.entry(*prefix).or_default().handle_look(&look, at);
            let carried = self.carried(*prefix, addresses, &proxied, at);
            // One look alone tells nothing about new flows.
            if let Some((new, carried)) = traffic.new_per_second.zip(carried) {
                let open = traffic.open as u64 + carried.open;
                measured.insert(*prefix, Flows { open, new_per_second: new + carried.new_per_second, at });
            }
        }
        self.measured.send_replace(Arc::new(measured));
    }

    /// What the proxy carries for a prefix; None at the first look.
    fn carried(
        &mut self,
        prefix: AnycastPrefix,
        addresses: &[IpAddr],
        proxied: &FlowBook,
        at: Instant,
    ) -> Option<Flows> {
        let here = || proxied.iter().filter(|(place, _)| addresses.contains(&place.ip())).map(|(_, it)| it);
        let accepted = here().map(|flows| flows.accepted()).sum();
        let (before, since) = self.accepted.insert(prefix, (accepted, at))?;
        let seconds = at.saturating_duration_since(since).as_secs_f64();
        let new_per_second = accepted.saturating_sub(before) as f64 / seconds.max(f64::EPSILON);
        Some(Flows { open: here().map(|flows| flows.open()).sum(), new_per_second, at })
    }

    /// The proxy ends what came before now: it knows how to say so to a client that speaks TLS.
    fn close_proxied(&self, addresses: &[IpAddr], now: Instant) {
        self.closing.send_modify(|closing| {
            let mut more = Closing::clone(closing);
            more.extend(addresses.iter().map(|address| (*address, now)));
            *closing = Arc::new(more);
        });
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.blind, true) {
            warn!("{error}: drains wait for their deadlines");
        }
    }
}

/// Ends what is still open: the other sides are told, and may go elsewhere.
async fn close_all(prefix: AnycastPrefix, look: &Look) {
    let open = || look.flows.iter().filter(|flow| flow.stage() == Stage::Open);
    let closing = async {
        for flow in open() {
            flows::destroy(flow).await?;
        }
        Ok(())
    };
    let closed: io::Result<()> =
        timeout(PATIENCE, closing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match closed {
        Ok(()) => info!(%prefix, flows = open().count(), "drained: what was left has been closed"),
        Err(error) => warn!(%prefix, "drained, but what was left could not all be closed: {error}"),
    }
}

/// What was seen of each prefix, but for what the proxy counts itself.
fn apart(all: Look, watched: &[Watched], proxied: &FlowBook) -> BTreeMap<AnycastPrefix, Look> {
    let places = watched.iter().flat_map(|one| one.addresses.iter().map(|address| (*address, one.prefix)));
    let owners: BTreeMap<IpAddr, AnycastPrefix> = places.collect();
    // More than were kept may be anybody's: nobody is quiet then.
    let surplus = (all.open + all.ended).saturating_sub(all.flows.len());
    let empty = Look { open: surplus, ..Look::default() };
    let mut looks: BTreeMap<_, _> = watched.iter().map(|one| (one.prefix, empty.clone())).collect();
    for flow in all.flows.into_iter().filter(|flow| !is_own(flow) && !proxied.contains_key(&flow.local())) {
        let owner = owners.get(&flow.local().ip());
        if let Some(look) = owner.and_then(|prefix| looks.get_mut(prefix)) {
            look.add(flow);
        }
    }
    looks
}

/// Our own checks of what listens at an anycast address are no traffic: both their ends are that address.
fn is_own(flow: &Flow) -> bool {
    flow.local().ip() == flow.remote().ip()
}
