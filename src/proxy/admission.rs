//! Whom a listener takes in: bounds of the listener, of each source and of each IPv6 /48, held over all workers.
//!
//! Sources and sites (a /48) are kept in a table of a fixed size, in buckets of eight slots; a random key decides on the
//! bucket, so that nobody can aim at one. A slot is somebody else's only when its owner has no connection and a full allowance, that
//! is when forgetting it changes nothing. Whoever finds no slot shares one with the wide network around it, at
//! [`SHARED`] times the bounds of a source. So a flood neither takes memory nor drives anybody out.

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::source::Source;
use crate::config::listen::Limits;

/// How many times the rate of one of its /64 a /48 has, and a shared slot of what a source may.
const SHARED: u32 = 8;
const WAYS: usize = 8;
const SHARDS: usize = 64;
/// Slots of a table: 1.5 MiB.
const SLOTS: usize = 1 << 16;
/// Shared slots of each shard.
const WIDE: usize = 16;
const NS_PER_MS: u64 = 1_000_000;

/// Why a connection is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the listener has as many connections as it may")]
    ListenerFull,
    #[error("the source has as many connections as it may")]
    SourceFull,
    #[error("the source opens connections too fast")]
    SourceTooFast,
    #[error("the /48 around the source has as many connections as it may")]
    SiteFull,
    #[error("the /48 around the source opens connections too fast")]
    SiteTooFast,
}

/// The bounds of one listener at work. All workers share it.
#[derive(Debug, Default)]
pub struct Admission {
    open: AtomicU32,
    /// Made when the first bound of sources is asked for.
    sources: OnceLock<Sources>,
}

/// One connection that was taken in; its place is given back when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    /// Where it is counted as its source's and as its site's.
    places: [Option<Place>; 2],
}

impl Admission {
    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a connection in, if its listener and its source have room for it. `now_ms`: on the process's clock.
    /// `limits` may change from call to call; what is open counts on.
    ///
    /// # Errors
    /// [`Refused`]; then nothing was counted anywhere.
    pub fn admit(
        self: &Arc<Self>,
        limits: &Limits,
        source: IpAddr,
        now_ms: u64,
    ) -> Result<Admitted, Refused> {
        let most = if limits.connections == 0 { u32::MAX } else { limits.connections };
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| (open < most).then(|| open + 1))
            .map_err(|_| Refused::ListenerFull)?;
        let mut admitted = Admitted { admission: Arc::clone(self), places: [None; 2] };
        if limits.per_source != 0 || limits.per_site != 0 || limits.rate != 0 {
            let sources = self.sources.get_or_init(Sources::new);
            admitted.places = sources.admit(limits, Source::of(source), now_ms)?;
        }
        Ok(admitted)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::AcqRel);
        let Some(sources) = self.admission.sources.get() else { return };
        for place in self.places.into_iter().flatten() {
            sources.at(place, |slot| slot.open = slot.open.saturating_sub(1));
        }
    }
}

/// The sources of one listener.
#[derive(Debug)]
struct Sources {
    shards: Box<[Mutex<Shard>]>,
    hash: RandomState,
}

/// INVARIANT: a slot with a connection or a used allowance is never given to another source, so that a [`Place`] leads
/// to its own slot for as long as the connection lives.
#[derive(Debug)]
struct Shard {
    /// Those of sources, then [`WIDE`] shared ones.
    slots: Box<[Slot]>,
}

/// 24 octets.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// 0: nobody's.
    key: u64,
    /// The moment in nanoseconds at which the whole allowance will be back: the theoretical arrival time of the
    /// generic cell rate algorithm, a token bucket in one number.
    full_at: u64,
    open: u32,
}

/// Four octets: every connection has two of them.
#[derive(Debug, Clone, Copy)]
struct Place {
    shard: u16,
    slot: u16,
}

/// What one slot allows.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    /// Connections at once; 0: any number, and they are not counted.
    open: u32,
    /// Nanoseconds for each new connection; 0: no bound.
    each: u64,
    /// Nanoseconds that may be used in advance.
    ahead: u64,
}

impl Sources {
    fn new() -> Self {
        let slots = || vec![Slot::default(); SLOTS / SHARDS + WIDE].into_boxed_slice();
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard { slots: slots() }));
        Self { shards: shards.collect(), hash: RandomState::new() }
    }

    /// Where the connection is counted as open: at its source, and at its site.
    fn admit(&self, limits: &Limits, source: Source, now_ms: u64) -> Result<[Option<Place>; 2], Refused> {
        let now = now_ms.saturating_mul(NS_PER_MS);
        let own = Allowance::new(limits.per_source, limits.rate, limits.burst);
        let place = if own.is_bound() { Some(self.charge(source, own, now)?) } else { None };
        let counted = place.filter(|_| own.open != 0);
        let (rate, burst) = (limits.rate.saturating_mul(SHARED), limits.burst.saturating_mul(SHARED));
        let many = Allowance::new(limits.per_site, rate, burst);
        let Some(site) = source.net48().filter(|_| many.is_bound()) else { return Ok([counted, None]) };
        // After the source, and undone if refused: one that is too fast uses nothing up of its neighbours'.
        match self.charge(site, many, now) {
            Ok(place) => Ok([counted, (many.open != 0).then_some(place)]),
            Err(refused) => {
                if let Some(place) = place {
                    self.at(place, |slot| {
                        slot.full_at = slot.full_at.saturating_sub(own.each);
                        slot.open = slot.open.saturating_sub(u32::from(own.open != 0));
                    });
                }
                Err(if refused == Refused::SourceFull { Refused::SiteFull } else { Refused::SiteTooFast })
            }
        }
    }

    fn at(&self, place: Place, change: impl FnOnce(&mut Slot)) {
        change(&mut lock(&self.shards[usize::from(place.shard)]).slots[usize::from(place.slot)]);
    }

    /// Charges a source or a site for one connection.
    fn charge(&self, source: Source, allowance: Allowance, now: u64) -> Result<Place, Refused> {
        let key = self.hash.hash_one(source) | 1;
        let (shard, first) = place_of(key, SLOTS / SHARDS / WAYS);
        {
            let mut slots = lock(&self.shards[shard]);
            let bucket = &mut slots.slots[first * WAYS..][..WAYS];
            let found = bucket.iter().position(|slot| slot.key == key);
            if let Some(at) = found.or_else(|| bucket.iter().position(|slot| slot.is_idle(now))) {
                if found.is_none() {
                    bucket[at] = Slot { key, ..Slot::default() };
                }
                bucket[at].charge(allowance, now)?;
                return Ok(Place::new(shard, first * WAYS + at));
            }
        }
        // Sites share with sites: their bounds are others, and a connection counts in both.
        let is_site = matches!(source, Source::Net48(_));
        let (shard, slot) = place_of(self.hash.hash_one((source.wide(), is_site)), WIDE);
        let slot = SLOTS / SHARDS + slot;
        lock(&self.shards[shard]).slots[slot].charge(allowance.shared(), now)?;
        Ok(Place::new(shard, slot))
    }
}

impl Place {
    fn new(shard: usize, slot: usize) -> Self {
        const { assert!(SHARDS < 1 << 16 && SLOTS / SHARDS + WIDE < 1 << 16) };
        Self { shard: shard as u16, slot: slot as u16 }
    }
}

impl Slot {
    fn is_idle(&self, now: u64) -> bool {
        self.open == 0 && self.full_at <= now
    }

    fn charge(&mut self, allowance: Allowance, now: u64) -> Result<(), Refused> {
        if allowance.open != 0 && self.open >= allowance.open {
            return Err(Refused::SourceFull);
        }
        if allowance.each != 0 {
            let full_at = self.full_at.max(now).saturating_add(allowance.each);
            if full_at - now > allowance.ahead {
                return Err(Refused::SourceTooFast);
            }
            self.full_at = full_at;
        }
        self.open += u32::from(allowance.open != 0);
        Ok(())
    }
}

impl Allowance {
    /// `burst` 0: as many as in one second.
    fn new(open: u32, rate: u32, burst: u32) -> Self {
        if rate == 0 {
            return Self { open, each: 0, ahead: 0 };
        }
        let each = (1_000 * NS_PER_MS / u64::from(rate)).max(1);
        let burst = if burst == 0 { rate } else { burst };
        // The clock has milliseconds: what comes in one of them comes at once.
        Self { open, each, ahead: (each * u64::from(burst)).max(NS_PER_MS).max(each) }
    }

    fn is_bound(self) -> bool {
        self.open != 0 || self.each != 0
    }

    /// The same for all that share a slot.
    fn shared(self) -> Self {
        let factor = u64::from(SHARED);
        // As much again and again in the same time, and never nothing.
        let each = if self.each == 0 { 0 } else { (self.each / factor).max(1) };
        Self { open: self.open.saturating_mul(SHARED), each, ahead: self.ahead }
    }
}

/// A shard, and one of `n` places in it.
fn place_of(key: u64, n: usize) -> (usize, usize) {
    let shard = (key >> 58) as usize % SHARDS;
    let place = (u128::from(key << 6) * n as u128) >> 64;
    (shard, place as usize)
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
