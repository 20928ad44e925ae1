//! The choice of a backend: v1's score, lowest wins, and chance among equals.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::backend::Verdict;
use super::live::Place;
use super::service::Service;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Client {
    pub source: IpAddr,
    pub country: Option<[u8; 2]>,
    pub region: Option<Arc<str>>,
}

/// Why there is no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    #[error("no backend is up")]
    Down,
    #[error("every backend is at its hard limit")]
    Full,
    #[error("every backend has been tried")]
    Tried,
}

/// Chooses a backend and takes a place there: its index and the place.
///
/// # Errors
/// [`Nobody`].
pub fn select(
    service: &Service,
    _region: &str,
    _client: &Client,
    tried: &[usize],
    _now: Instant,
    now_ms: u64,
    dice: u64,
) -> Result<(usize, Place), Nobody> {
    let n = service.backends.len();
    let mut why = Nobody::Down;
    for offset in 0..n {
        let index = (dice as usize % n.max(1) + offset) % n;
        let backend = &service.backends[index];
        if backend.known.verdict != Verdict::Up || backend.drain || backend.live.ejected_until() > now_ms {
            continue;
        }
        if tried.contains(&index) {
            why = Nobody::Tried;
            continue;
        }
        match backend.live.take(backend.hard_limit) {
            Some(place) => return Ok((index, place)),
            None => why = Nobody::Full,
        }
    }
    Err(why)
}
