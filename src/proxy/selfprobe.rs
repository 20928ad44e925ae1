//! Connections of our own, through every door to a backend: what a client would find.
//!
//! They come from the address that they go to, so they never leave the machine, take the way of every client through
//! the kernel, a worker, TLS and the choice, and end where the backend has answered.
#![expect(clippy::disallowed_methods, reason = "driver: connects by the clock")]

mod client;
mod witness;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::witness::Witness;
use super::desk::{Desk, Proof};
use super::plan::{DoorKey, Entrance, Plan};
use crate::config::listen::Protocol;
use crate::supervise::lease::paths::Paths;

/// How often ways are looked at that do not serve.
const LOOK: Duration = Duration::from_millis(100);

/// One way in: a door, and the service that a name there leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    pub door: DoorKey,
    pub service: Arc<str>,
    /// What the client asks for, where TLS ends here.
    pub tls: Option<Option<String>>,
}

/// Probes every way in at the pace of the plan.
#[derive(Debug)]
pub struct SelfProbes {
    plan: watch::Receiver<Arc<Plan>>,
    desk: Arc<Desk>,
    paths: watch::Sender<Arc<Paths>>,
}

impl SelfProbes {
    /// `desk`: where workers look whose a connection is; `paths`: where to publish.
    #[must_use]
    pub fn new(plan: watch::Receiver<Arc<Plan>>, desk: Arc<Desk>, paths: watch::Sender<Arc<Paths>>) -> Self {
        Self { plan, desk, paths }
    }

    /// Runs until `stop`. When it is dropped, whoever waits for a proof learns that there will be none.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut witness = Witness::default();
        loop {
            let plan = self.plan.borrow_and_update().clone();
            let ways = ways(&plan);
            let lease = plan.limits.lease;
            witness.handle_ways(&ways, &lease);
            self.paths.send_replace(Arc::new(witness.paths()));
            let mut tick = interval(LOOK.min(lease.probe_interval));
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut due = vec![Some(Instant::now()); ways.len()];
            let mut under_way = FuturesUnordered::new();
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = self.plan.changed() => {
                        if changed.is_err() {
                            return stop.cancelled().await;
                        }
                        break;
                    }
                    Some((index, proof)) = under_way.next(), if !under_way.is_empty() => {
                        let now = Instant::now();
                        // Whoever does not serve is looked at more often: the way back begins with the first success.
                        let pause = if proof == Proof::Served { lease.probe_interval } else { LOOK };
                        due[index] = Some(now + pause.min(lease.probe_interval));
                        witness.handle_proof(&ways[index], proof, now);
                        self.paths.send_replace(Arc::new(witness.paths()));
                    }
                    _ = tick.tick() => {
                        let now = Instant::now();
                        for (index, due) in due.iter_mut().enumerate() {
                            // One at a time for each way.
                            if due.is_some_and(|at| at <= now) {
                                *due = None;
                                let (desk, way) = (&self.desk, &ways[index]);
                                let probe = probe(desk, way, lease.probe_timeout);
                                under_way.push(async move { (index, probe.await) });
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Every way in of a plan. Where the backend ends TLS itself, there is nothing that we could say to it.
fn ways(plan: &Plan) -> Vec<Way> {
    let mut ways = Vec::new();
    for door in plan.doors.values().filter(|door| door.key.protocol == Protocol::Tcp) {
        match &door.entrance {
            Entrance::Service(service) => {
                ways.push(Way { door: door.key, service: Arc::clone(service), tls: None });
            }
            Entrance::Named(names) => {
                let terminated =
                    names.ways().map(|(name, service)| Way { door: door.key, service, tls: Some(name) });
                ways.extend(terminated);
            }
            // No prefix depends on it, and we are no other POP.
            Entrance::Ingress => {}
        }
    }
    ways
}

async fn probe(desk: &Desk, way: &Way, within: Duration) -> Proof {
    let failed = |words: String| Proof::Failed(words);
    match timeout(within, attempt(desk, way)).await {
        Ok(Ok(proof)) => proof,
        Ok(Err(error)) => failed(error),
        Err(_) => failed(format!("no answer within {within:?}")),
    }
}

async fn attempt(desk: &Desk, way: &Way) -> Result<Proof, String> {
    let words = |error: std::io::Error| error.to_string();
    let to = way.door.address;
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(words)?;
    // Nobody waits for the last octets of these.
    #[expect(deprecated, reason = "a socket that is closed with nothing unsent does not block")]
    socket.set_linger(Some(Duration::ZERO)).map_err(words)?;
    socket.bind(SocketAddr::new(to.ip(), 0)).map_err(words)?;
    let from = socket.local_addr().map_err(words)?;
    let Some(proof) = desk.expect(from) else {
        return Ok(Proof::Nobody);
    };
    let _forget = Forget { desk, from };
    let stream = socket.connect(to).await.map_err(words)?;
    match &way.tls {
        None => proof.await.map_err(|_| "the worker dropped the connection".to_owned()),
        Some(name) => client::shake(&stream, name.as_deref(), proof).await,
    }
}

/// Takes back what nobody came for.
struct Forget<'d> {
    desk: &'d Desk,
    from: SocketAddr,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.desk.forget(self.from);
    }
}
