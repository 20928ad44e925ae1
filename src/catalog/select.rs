//! The choice of a backend: v1's score, lowest wins, and chance by weight among equals.
//!
//!     score = 100 · geo + 10 · far + (connections / soft_limit) / weight
//!
//! - `geo`: 0 the backend stands in the client's country, 1 in the client's region, 2 in this POP's region,
//!   3 elsewhere.
//! - `far`: 0 to 9, see [`super::backend::Backend::far`]. The same for all backends of one region, so that it
//!   tells regions of one class apart, and less than a step of `geo` together.
//! - `weight` is less for a while after the backend came up (slow start).
//!
//! What may not be used has no part in it, and [`Rejection`] says why. Of those with the same lowest score each is
//! chosen as often as its weight says; so weights share the load of idle backends as well.

mod explain;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::explain::{Candidate, explain};
use super::backend::{Backend, Verdict};
use super::live::{Place, Standing};
use super::service::Service;
use crate::config::services::Forwarding;

/// Looks at all backends in one choice, when others take the place that was just seen free.
const ROUNDS: usize = 64;
/// What slow start leaves of a weight at least, in thousandths.
const LEAST_SHARE: u64 = 100;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Client {
    pub source: IpAddr,
    /// Two lower-case letters.
    pub country: Option<[u8; 2]>,
    pub region: Option<Arc<str>>,
}

/// Why there is no backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nobody {
    #[error("no backend is up")]
    Down,
    #[error("no backend that is up has room: hard limits")]
    Full,
    #[error("every backend that is up has been tried")]
    Tried,
}

/// Why a backend may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    Drains,
    NeverProven,
    Down,
    /// For so many more milliseconds.
    Ejected(u64),
    OnTrial,
    /// At this hard limit.
    Full(u32),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drains => f.write_str("drains"),
            Self::NeverProven => f.write_str("down: never proven"),
            Self::Down => f.write_str("down"),
            Self::Ejected(left) => write!(f, "ejected for {} s", left.div_ceil(1_000)),
            Self::OnTrial => f.write_str("was ejected: one connection is trying it"),
            Self::Full(limit) => write!(f, "at its hard limit {limit}"),
        }
    }
}

/// Chooses a backend and takes a place there: its index and the place. `region`: this POP's. `tried`: indices that
/// are out of question. `now_ms`: the same moment on the process's clock. `dice`: anything random.
///
/// Allocates nothing, and looks at each backend once for each place that is lost to another connection meanwhile.
///
/// # Errors
/// [`Nobody`].
pub fn select(
    service: &Service,
    region: &str,
    client: &Client,
    tried: &[usize],
    now: Instant,
    now_ms: u64,
    dice: u64,
) -> Result<(usize, Place), Nobody> {
    let panics = panics(service, now_ms);
    for _ in 0..ROUNDS {
        let index = best(service, region, client, tried, panics, now, now_ms, dice)?;
        if let Some(place) = take(service, index, panics, now_ms) {
            return Ok((index, place));
        }
    }
    Err(Nobody::Full)
}

/// Takes a place at the backend that a client is bound to, under the same rules as any other client's.
///
/// # Errors
/// Why the backend may not be used.
pub fn take_bound(service: &Service, index: usize, now_ms: u64) -> Result<Place, Rejection> {
    let panics = panics(service, now_ms);
    let Some(backend) = service.backends.get(index) else { return Err(Rejection::NeverProven) };
    if let Some(rejection) = rejection(backend, panics, now_ms) {
        return Err(rejection);
    }
    // Whoever was quicker took the last place or the trial.
    take(service, index, panics, now_ms)
        .ok_or_else(|| rejection(backend, panics, now_ms).unwrap_or(Rejection::Full(backend.hard_limit)))
}

/// The best that may be used, as it looks at this moment.
fn best(
    service: &Service,
    region: &str,
    client: &Client,
    tried: &[usize],
    panics: bool,
    now: Instant,
    now_ms: u64,
    dice: u64,
) -> Result<usize, Nobody> {
    let mut nobody = Nobody::Down;
    let mut best: Option<(usize, f64)> = None;
    // Of those with the lowest score so far.
    let mut weights = 0;
    for (index, backend) in service.backends.iter().enumerate() {
        match rejection(backend, panics, now_ms) {
            None => {}
            Some(Rejection::Full(_)) => {
                nobody = Nobody::Full;
                continue;
            }
            Some(_) => continue,
        }
        if tried.contains(&index) {
            if nobody == Nobody::Down {
                nobody = Nobody::Tried;
            }
            continue;
        }
        let weight = weight(backend, &service.forwarding, now);
        let score = score(backend, weight, region, client);
        match best {
            Some((_, lowest)) if score > lowest => {}
            Some((_, lowest)) if score == lowest => {
                // Each takes the place of those before it as often as its share of the weight so far: at the end
                // every one has been left standing as often as its weight says.
                weights += weight;
                if below(mix(dice ^ index as u64), weights) < weight {
                    best = Some((index, score));
                }
            }
            _ => {
                best = Some((index, score));
                weights = weight;
            }
        }
    }
    best.map(|(index, _)| index).ok_or(nobody)
}

fn take(service: &Service, index: usize, panics: bool, now_ms: u64) -> Option<Place> {
    let backend = &service.backends[index];
    if panics {
        let mut place = backend.live.take(backend.hard_limit)?;
        place.in_panic = true;
        return Some(place);
    }
    let trial = service.forwarding.timeouts.deadline.as_millis() as u64;
    backend.live.take_standing(backend.hard_limit, now_ms, trial)
}

/// Whether so few backends are healthy that their health is not believed. Those that drain do not count.
#[must_use]
pub fn panics(service: &Service, now_ms: u64) -> bool {
    if service.forwarding.panic == 0 {
        return false;
    }
    let (mut all, mut healthy) = (0, 0);
    for backend in service.backends.iter().filter(|backend| !backend.drain) {
        all += 1;
        let is_in = !matches!(backend.live.standing(now_ms), Standing::Out(_));
        healthy += usize::from(backend.known.verdict == Verdict::Up && is_in);
    }
    healthy * 100 < usize::from(service.forwarding.panic) * all
}

/// Why a backend may not be used, if so.
fn rejection(backend: &Backend, panics: bool, now_ms: u64) -> Option<Rejection> {
    if backend.drain {
        return Some(Rejection::Drains);
    }
    if !panics {
        match backend.known.verdict {
            Verdict::Up => {}
            Verdict::Unproven => return Some(Rejection::NeverProven),
            Verdict::Down => return Some(Rejection::Down),
        }
        match backend.live.standing(now_ms) {
            Standing::In | Standing::MayBeTried => {}
            Standing::Out(left) => return Some(Rejection::Ejected(left)),
            Standing::OnTrial => return Some(Rejection::OnTrial),
        }
    }
    let limit = backend.hard_limit;
    (limit != 0 && backend.live.connections() >= limit).then_some(Rejection::Full(limit))
}

/// Where a backend stands, as seen from the client and from here.
fn geo(backend: &Backend, region: &str, client: &Client) -> u8 {
    if client.country.is_some() && client.country == backend.country {
        0
    } else if client.region.as_ref().is_some_and(|region| *region == backend.region) {
        1
    } else if *backend.region == *region {
        2
    } else {
        3
    }
}

/// The weight in thousandths, grown linearly from a tenth to the whole over the slow start.
fn weight(backend: &Backend, forwarding: &Forwarding, now: Instant) -> u64 {
    let whole = u64::from(backend.weight.max(1));
    let up = match backend.known.since {
        Some(since) if backend.known.verdict == Verdict::Up => now.saturating_duration_since(since),
        _ => Duration::MAX,
    };
    if up >= forwarding.slow_start {
        return whole * 1_000;
    }
    let share = 1_000 * up.as_micros() / forwarding.slow_start.as_micros().max(1);
    whole * (share as u64).clamp(LEAST_SHARE, 1_000)
}

fn score(backend: &Backend, weight: u64, region: &str, client: &Client) -> f64 {
    let place = u32::from(geo(backend, region, client)) * 100 + u32::from(backend.far) * 10;
    f64::from(place) + load(backend, weight)
}

fn load(backend: &Backend, weight: u64) -> f64 {
    // One division: loads that are the same share of different capacities are the same number.
    let capacity = u64::from(backend.soft_limit.max(1)) * weight;
    f64::from(backend.live.connections()) * 1_000.0 / capacity as f64
}

/// A number under `bound` out of 64 random bits.
fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// Spreads the bits of the dice, so that backends see different throws of it (the finalizer of SplitMix64).
fn mix(dice: u64) -> u64 {
    let mut z = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
