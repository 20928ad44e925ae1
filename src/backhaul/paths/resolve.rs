//! Where peers are: addresses of the configuration, and names that are asked for again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::net::lookup_host;
use tokio::time::{sleep_until, timeout};

use crate::backhaul::plane::Name;
use crate::config::backhaul::{Backhaul, Endpoint};

/// Names that are asked for at once: each may hold a thread until the resolver gives up.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);
const MOST_ADDRESSES: usize = 8;

type Found = (Name, Vec<SocketAddr>, bool);

#[derive(Default)]
pub(super) struct Resolver {
    endpoints: BTreeMap<Name, Vec<Endpoint>>,
    due: BTreeMap<Name, Instant>,
    /// What was found last, which counts while nobody answers.
    last: BTreeMap<Name, Vec<SocketAddr>>,
    running: FuturesUnordered<BoxFuture<'static, Found>>,
}

impl Resolver {
    /// Asks for everything that changed.
    pub(super) fn set(&mut self, config: &Backhaul, now: Instant) {
        let endpoints: BTreeMap<Name, Vec<Endpoint>> =
            config.peers.iter().map(|peer| (peer.pop.as_str().into(), peer.endpoints.clone())).collect();
        for (name, wanted) in &endpoints {
            if self.endpoints.get(name) != Some(wanted) {
                self.due.insert(name.clone(), now);
                self.last.remove(name);
            }
        }
        self.due.retain(|name, _| endpoints.contains_key(name));
        self.last.retain(|name, _| endpoints.contains_key(name));
        self.endpoints = endpoints;
    }

    /// The next peer whose addresses are known, or known anew. Never ends; may be given up at any time.
    pub(super) async fn next(&mut self) -> (Name, Vec<SocketAddr>) {
        loop {
            let now = Instant::now();
            let next = self.due.iter().min_by_key(|(_, at)| **at).map(|(name, at)| (name.clone(), *at));
            if let Some((name, at)) = next.clone()
                && at <= now
                && self.running.len() < AT_ONCE
            {
                self.due.remove(&name);
                let endpoints = self.endpoints.get(&name).cloned().unwrap_or_default();
                self.running.push(Box::pin(look(name, endpoints)));
                continue;
            }
            let wait = next.map_or(now + AGAIN, |(_, at)| at.max(now + Duration::from_millis(10)));
            tokio::select! {
                Some((name, found, whole)) = self.running.next(), if !self.running.is_empty() => {
                    let Some(endpoints) = self.endpoints.get(&name) else { continue };
                    if endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Name(..))) {
                        let wait = if whole { AGAIN } else { SOON };
                        self.due.entry(name.clone()).or_insert(Instant::now() + wait);
                    }
                    // Half an answer is no reason to forget an address that works.
                    if !whole && self.last.contains_key(&name) {
                        continue;
                    }
                    if self.last.get(&name) == Some(&found) {
                        continue;
                    }
                    self.last.insert(name.clone(), found.clone());
                    return (name, found);
                }
                () = sleep_until(wait.into()) => {}
            }
        }
    }
}

async fn look(name: Name, endpoints: Vec<Endpoint>) -> Found {
    let (mut found, mut whole) = (Vec::new(), true);
    for endpoint in endpoints {
        match endpoint {
            Endpoint::Address(address) => found.push(address),
            Endpoint::Name(host, port) => match timeout(PATIENCE, lookup_host((host, port))).await {
                Ok(Ok(addresses)) => found.extend(addresses),
                _ => whole = false,
            },
        }
    }
    let mut seen = Vec::new();
    found.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
    found.truncate(MOST_ADDRESSES);
    (name, found, whole)
}
