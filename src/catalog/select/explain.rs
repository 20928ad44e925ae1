//! The choice in words: every backend with its score, its chance, or why it may not be used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Client, Rejection, geo, load, panics, rejection, score, weight};
use crate::catalog::service::Service;

/// One backend as the choice saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Among the service's backends.
    pub index: usize,
    pub id: Arc<str>,
    pub address: SocketAddr,
    pub region: Arc<str>,
    pub connections: u32,
    /// 0 to 3, as in the score.
    pub geo: u8,
    /// 0 to 9, as in the score.
    pub far: u8,
    /// In thousandths, after slow start.
    pub weight: u64,
    /// Connections over `soft_limit` and weight.
    pub load: f64,
    /// What it has, or would have if it might be used.
    pub score: f64,
    /// Why it may not be used.
    pub rejected: Option<Rejection>,
    /// It may be used only because too few are healthy (panic threshold).
    pub in_panic: bool,
    /// How likely it is chosen, 0 to 1.
    pub chance: f64,
}

/// Every backend, in the order of the configuration, as [`super::select`] would see it for this client. Takes nothing.
#[must_use]
pub fn explain(
    service: &Service,
    region: &str,
    client: &Client,
    now: Instant,
    now_ms: u64,
) -> Vec<Candidate> {
    let panics = panics(service, now_ms);
    let mut candidates: Vec<Candidate> = service
        .backends
        .iter()
        .enumerate()
        .map(|(index, backend)| {
            let weight = weight(backend, &service.forwarding, now);
            let rejected = rejection(backend, panics, now_ms);
            Candidate {
                index,
                id: Arc::clone(&backend.id),
                address: backend.address,
                region: Arc::clone(&backend.region),
                connections: backend.live.connections(),
                geo: geo(backend, region, client),
                far: backend.far,
                weight,
                load: load(backend, weight),
                score: score(backend, weight, region, client),
                rejected,
                in_panic: panics && rejected.is_none() && rejection(backend, false, now_ms).is_some(),
                chance: 0.0,
            }
        })
        .collect();
    let usable = || candidates.iter().filter(|it| it.rejected.is_none());
    let lowest = usable().map(|it| it.score).fold(f64::INFINITY, f64::min);
    let weights: u64 = usable().filter(|it| it.score == lowest).map(|it| it.weight).sum();
    for it in candidates.iter_mut().filter(|it| it.rejected.is_none() && it.score == lowest) {
        it.chance = it.weight as f64 / weights as f64;
    }
    candidates
}
