//! The status document of the data plane, made now and then from the counts of all workers.
#![expect(clippy::disallowed_methods, reason = "driver: looks at the counts at its own pace")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::explain::explain;
use super::plan::{Door, Entrance, Plan};
use super::tally::Tally;
use super::totals::Totals;
use crate::catalog::backend::{Backend, Verdict};
use crate::catalog::service::Service;
use crate::catalog::view::View;
use crate::config::listen::Protocol;
use crate::observe::status::choice::{ChoiceCall, ChoiceStatus, UnknownService};
use crate::observe::status::traffic::{BackendTraffic, DoorStatus, ProxyStatus, TrafficStatus};

/// From one document to the next.
const EVERY: Duration = Duration::from_millis(500);

/// Makes status documents.
#[derive(Debug)]
pub struct Report {
    plan: watch::Receiver<Arc<Plan>>,
    view: watch::Receiver<Arc<View>>,
    totals: Arc<Totals>,
    started: Instant,
    status: watch::Sender<Arc<ProxyStatus>>,
    asked: mpsc::Receiver<ChoiceCall>,
}

impl Report {
    /// `status`: where to publish; `started`: the zero of the process's clock; `asked`: who asks about single clients.
    #[must_use]
    pub fn new(
        plan: watch::Receiver<Arc<Plan>>,
        view: watch::Receiver<Arc<View>>,
        totals: Arc<Totals>,
        started: Instant,
        status: watch::Sender<Arc<ProxyStatus>>,
        asked: mpsc::Receiver<ChoiceCall>,
    ) -> Self {
        Self { plan, view, totals, started, status, asked }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(call) = self.asked.recv() => {
                    let answer = self.choose(&call);
                    // Whoever went away needs no answer.
                    drop(call.reply.send(answer));
                    continue;
                }
                _ = every.tick() => {}
            }
            let (plan, view) = (self.plan.borrow().clone(), self.view.borrow().clone());
            let now_ms = self.started.elapsed().as_millis() as u64;
            let mut document = document(&plan, &view, &self.totals, now_ms);
            let today = SystemTime::now();
            document.certificates = plan.certificates.iter().map(|it| it.status(today)).collect();
            self.status.send_replace(Arc::new(document));
        }
    }

    /// Where one client would be taken now.
    fn choose(&self, call: &ChoiceCall) -> Result<ChoiceStatus, UnknownService> {
        let (view, now) = (self.view.borrow().clone(), Instant::now());
        let now_ms = now.saturating_duration_since(self.started).as_millis() as u64;
        let affinity = || self.totals.affinity();
        let choice = explain(&view, affinity, &call.service, call.client, now, now_ms)?;
        let listens = self.plan.borrow().tallies.contains_key(choice.service.as_str());
        Ok(ChoiceStatus { listens, ..choice })
    }
}

fn document(plan: &Plan, view: &View, totals: &Totals, now_ms: u64) -> ProxyStatus {
    let traffic = plan.tallies.iter().map(|(name, tally)| {
        let service = view.services.get(name).map(AsRef::as_ref);
        traffic(name, tally, service, now_ms)
    });
    ProxyStatus {
        workers: plan.workers as usize,
        open: totals.open(),
        held_bytes: totals.held(),
        starved: totals.starved.load(Ordering::Relaxed),
        unlogged: totals.unlogged.load(Ordering::Relaxed),
        doors: plan.doors.values().map(|door| door_status(door)).collect(),
        certificates: Vec::new(),
        services: traffic.collect(),
    }
}

fn door_status(door: &Door) -> DoorStatus {
    let services = match &door.entrance {
        Entrance::Service(name) => vec![name.to_string()],
        // Whatever other POPs want.
        Entrance::Ingress => Vec::new(),
        Entrance::Named(names) => names.services().map(|route| route.service.to_string()).collect(),
    };
    DoorStatus {
        door: door.key.to_string(),
        services,
        open: door.standing.open.load(Ordering::Relaxed),
        listening: door.standing.listening.load(Ordering::Relaxed) as usize,
        error: door.standing.why(),
        datagrams: (door.key.protocol == Protocol::Udp).then(|| door.standing.datagrams.status()),
    }
}

fn traffic(name: &str, tally: &Tally, service: Option<&Service>, now_ms: u64) -> TrafficStatus {
    let backends = service.map(|service| service.backends.iter().map(|it| backend(it, now_ms)).collect());
    TrafficStatus {
        service: name.to_owned(),
        open: tally.open.load(Ordering::Relaxed),
        connections: tally.connections.load(Ordering::Relaxed),
        up_bytes: tally.up.load(Ordering::Relaxed),
        down_bytes: tally.down.load(Ordering::Relaxed),
        ends: tally.ends(),
        reach: tally.reach.status(),
        duration: tally.duration.status(),
        backends: backends.unwrap_or_default(),
    }
}

fn backend(it: &Backend, now_ms: u64) -> BackendTraffic {
    let ejected_ms = it.live.ejected_until().checked_sub(now_ms).filter(|left| *left > 0);
    let state = match it.known.verdict {
        _ if it.drain => "draining",
        Verdict::Up if ejected_ms.is_some() => "ejected",
        Verdict::Up => "up",
        Verdict::Down => "down",
        Verdict::Unproven => "unproven",
    };
    let carried = &it.live.carried;
    BackendTraffic {
        id: it.id.to_string(),
        address: it.address.to_string(),
        region: it.region.to_string(),
        weight: it.weight,
        soft_limit: it.soft_limit,
        hard_limit: it.hard_limit,
        state: state.to_owned(),
        open: it.live.connections(),
        connections: carried.connections.load(Ordering::Relaxed),
        failures: carried.failures.load(Ordering::Relaxed),
        up_bytes: carried.up.load(Ordering::Relaxed),
        down_bytes: carried.down.load(Ordering::Relaxed),
        ejections: it.live.ejections.load(Ordering::Relaxed),
        ejected_ms,
        rtt_us: it.known.rtt.map(|rtt| rtt.as_micros() as u64),
    }
}
