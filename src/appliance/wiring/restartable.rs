//! The parts of the process that are started again when they end: their absence is a fact, and no failure of the rest.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{backhaul, replication};
use crate::admin::{Inputs, server::Server};
use crate::announce::AnnounceError;
use crate::announce::drain::Measured;
use crate::announce::ledger::Watched;
use crate::announce::traffic::Traffic;
use crate::catalog::traffic::{Closing, FlowBook};
use crate::config::admin::Admin;
use crate::proxy::ProxyError;
use crate::proxy::plan::Plan;
use crate::proxy::reminder;
use crate::supervise::restart::Duty;
use crate::supervise::tree::Tree;

/// What they need of the others.
pub(super) struct Parts {
    pub(super) door: Admin,
    pub(super) metrics: Option<SocketAddr>,
    /// Open already.
    pub(super) server: Server,
    pub(super) inputs: Inputs,
    pub(super) draining: watch::Receiver<Arc<Vec<Watched>>>,
    pub(super) measured: watch::Sender<Arc<Measured>>,
    pub(super) proxied: watch::Receiver<Arc<FlowBook>>,
    pub(super) closing: watch::Sender<Arc<Closing>>,
    pub(super) plan: watch::Receiver<Arc<Plan>>,
    pub(super) tunnels: Option<backhaul::Ends>,
    pub(super) replication: Option<replication::Ends>,
}

/// Starts them.
pub(super) fn tree(parts: Parts, stop_others: &CancellationToken) -> Tree {
    let Parts { door, metrics, server, inputs, draining, measured, proxied, closing, plan, .. } = parts;
    let stop = stop_others.clone();
    let mut opened = Some(server);
    let tree = Tree::new(stop_others.clone()).child("admin", Duty::Restartable, move || {
        let (opened, stop) = (opened.take(), stop.clone());
        let (door, inputs) = (door.clone(), inputs.clone());
        async move {
            let server = match opened {
                Some(server) => server,
                None => Server::open(&door, metrics, inputs).await?,
            };
            server.run(stop).await
        }
    });
    let stop = stop_others.clone();
    let tree = tree.child("traffic", Duty::Restartable, move || {
        let life = Traffic::new(draining.clone(), measured.clone(), proxied.clone(), closing.clone())
            .run(stop.clone());
        async move {
            life.await;
            Ok::<(), AnnounceError>(())
        }
    });
    let stop = stop_others.clone();
    let tree = tree.child("certificates", Duty::Restartable, move || {
        let life = reminder::run(plan.clone(), stop.clone());
        async move {
            life.await;
            Ok::<(), ProxyError>(())
        }
    });
    let tree = match parts.tunnels {
        Some(ends) => {
            let stop = stop_others.clone();
            tree.child("backhaul", Duty::Restartable, move || backhaul::run(ends.clone(), stop.clone()))
        }
        None => tree,
    };
    match parts.replication {
        Some(ends) => {
            let stop = stop_others.clone();
            tree.child("replication", Duty::Restartable, move || replication::run(ends.clone(), stop.clone()))
        }
        None => tree,
    }
}
