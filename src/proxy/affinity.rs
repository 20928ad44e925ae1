//! Which backend a client's address stays with: a table of a fixed size that all workers share.
//!
//! The table is an array of buckets of eight bindings. A source has one bucket, and a new binding takes the place of
//! the one there that was used least recently. That is nearly the oldest of all, and costs neither a list nor a
//! sweeper: what has expired is simply the first to be replaced.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::source::Source;

/// Bindings that one bucket holds.
const WAYS: usize = 8;
/// Locks over the buckets.
const SHARDS: usize = 64;
/// Times are kept in steps of this many milliseconds, so that 32 bits last for eight years.
const STEP_MS: u64 = 64;

/// Bindings of sources to backends, of all services.
#[derive(Debug)]
pub struct Affinity {
    shards: Box<[Mutex<Shard>]>,
    buckets: u64,
    /// Random, so that nobody can aim at a bucket.
    hash: RandomState,
}

#[derive(Debug)]
struct Shard {
    buckets: Box<[[Binding; WAYS]]>,
    used: usize,
}

/// 16 octets.
#[derive(Debug, Clone, Copy, Default)]
struct Binding {
    /// Of service and source; 0: nobody's. Two with the same are taken for one, once in 2^63 pairs.
    key: u64,
    /// The backend's [`crate::catalog::live::Live::serial`], which no backend of another service has.
    backend: u32,
    /// In steps.
    seen: u32,
}

impl Affinity {
    /// The most that the process keeps; what [`Affinity::new`] makes of more. 16 MiB.
    pub const MOST: usize = 1_000_000;

    /// A table for about so many bindings, rounded up to what its shape needs. Its memory is taken now, and never
    /// more.
    #[must_use]
    pub fn new(bindings: usize) -> Self {
        let buckets = bindings.clamp(1, Self::MOST).div_ceil(WAYS * SHARDS);
        let shard = |_| {
            let buckets = vec![[Binding::default(); WAYS]; buckets].into_boxed_slice();
            Mutex::new(Shard { buckets, used: 0 })
        };
        Self { shards: (0..SHARDS).map(shard).collect(), buckets: buckets as u64, hash: RandomState::new() }
    }

    /// The serial of the backend that a source is bound to, if it was seen in the last `ttl`; it has been seen now.
    #[must_use]
    pub fn find(&self, service: &str, source: Source, ttl: Duration, now_ms: u64) -> Option<u32> {
        let (key, now) = (self.key(service, source), steps(now_ms));
        let (mut shard, bucket) = self.bucket(key);
        let binding = shard.buckets[bucket].iter_mut().find(|it| it.key == key)?;
        if !binding.is_fresh(ttl, now) {
            *binding = Binding::default();
            shard.used -= 1;
            return None;
        }
        binding.seen = now;
        Some(binding.backend)
    }

    /// What a source is bound to, and what is left of that; it has not been seen by this.
    #[must_use]
    pub fn peek(&self, service: &str, source: Source, ttl: Duration, now_ms: u64) -> Option<(u32, Duration)> {
        let (key, now) = (self.key(service, source), steps(now_ms));
        let (shard, bucket) = self.bucket(key);
        let binding = shard.buckets[bucket].iter().find(|it| it.key == key && it.is_fresh(ttl, now))?;
        Some((binding.backend, ttl.saturating_sub(binding.away(now))))
    }

    /// Binds a source to a backend, whatever it was bound to before.
    pub fn bind(&self, service: &str, source: Source, backend: u32, now_ms: u64) {
        let key = self.key(service, source);
        self.put(Binding { key, backend, seen: steps(now_ms) });
    }

    /// A connection of the source ended: it has been there until now. A binding to another backend that it was given
    /// meanwhile stays as it is.
    pub fn ended(&self, service: &str, source: Source, backend: u32, ttl: Duration, now_ms: u64) {
        let (key, now) = (self.key(service, source), steps(now_ms));
        let is_bound_elsewhere = {
            let (shard, bucket) = self.bucket(key);
            let elsewhere = |it: &Binding| it.key == key && it.backend != backend && it.is_fresh(ttl, now);
            shard.buckets[bucket].iter().any(elsewhere)
        };
        if !is_bound_elsewhere {
            self.put(Binding { key, backend, seen: now });
        }
    }

    /// Bindings held, with those that have expired and were not replaced yet.
    #[must_use]
    pub fn bindings(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).used).sum()
    }

    fn put(&self, binding: Binding) {
        let (mut shard, bucket) = self.bucket(binding.key);
        let bucket = &mut shard.buckets[bucket];
        let age = |it: &Binding| match it.key {
            key if key == binding.key => (2, 0),
            0 => (1, 0),
            _ => (0, binding.seen.wrapping_sub(it.seen) as i32),
        };
        let Some(place) = bucket.iter_mut().max_by_key(|it| age(it)) else { return };
        let is_new = place.key == 0;
        *place = binding;
        shard.used += usize::from(is_new);
    }

    fn key(&self, service: &str, source: Source) -> u64 {
        self.hash.hash_one((service, source)) | 1
    }

    fn bucket(&self, key: u64) -> (MutexGuard<'_, Shard>, usize) {
        let shard = (key >> 58) as usize % SHARDS;
        // The bits below those of the shard, scaled to the number of buckets.
        let bucket = (u128::from(key << 6) * u128::from(self.buckets)) >> 64;
        (lock(&self.shards[shard]), bucket as usize)
    }
}

impl Binding {
    fn is_fresh(&self, ttl: Duration, now: u32) -> bool {
        self.away(now) < ttl
    }

    /// Since it was seen. Other workers' clocks may be a little ahead of ours.
    fn away(&self, now: u32) -> Duration {
        Duration::from_millis((now.wrapping_sub(self.seen) as i32).max(0) as u64 * STEP_MS)
    }
}

fn steps(now_ms: u64) -> u32 {
    (now_ms / STEP_MS) as u32
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(600);

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn a_source_stays_while_it_is_seen() {
        let table = Affinity::new(1_000);
        let who = source("192.0.2.1");
        assert_eq!(table.find("web", who, TTL, 0), None);
        table.bind("web", who, 7, 0);
        // Each look is a visit, and the time counts from the last.
        for now in [1_000, 500_000, 1_099_000, 1_600_000] {
            assert_eq!(table.find("web", who, TTL, now), Some(7), "{now}");
        }
        assert_eq!(table.find("web", who, TTL, 2_200_100), None);
        assert_eq!(table.bindings(), 0);
    }

    #[test]
    fn a_look_is_no_visit() {
        let table = Affinity::new(1_000);
        let who = source("192.0.2.1");
        assert_eq!(table.peek("web", who, TTL, 0), None);
        table.bind("web", who, 7, 0);
        let left = |ms| Some((7, TTL - Duration::from_millis(ms)));
        assert_eq!(table.peek("web", who, TTL, 64_000), left(64_000));
        assert_eq!(table.peek("web", who, TTL, 128_000), left(128_000));
        assert_eq!((table.peek("web", who, TTL, 601_000), table.bindings()), (None, 1));
        assert_eq!(table.find("web", who, TTL, 599_000), Some(7));
        assert!(table.peek("web", who, TTL, 1_198_000).is_some());
    }

    #[test]
    fn services_and_sources_are_apart() {
        let table = Affinity::new(1_000);
        table.bind("web", source("192.0.2.1"), 7, 0);
        table.bind("api", source("192.0.2.1"), 8, 0);
        table.bind("web", source("2001:db8::1"), 9, 0);
        assert_eq!(table.find("web", source("192.0.2.1"), TTL, 1), Some(7));
        assert_eq!(table.find("api", source("192.0.2.1"), TTL, 1), Some(8));
        assert_eq!(table.find("web", source("2001:db8::ffff"), TTL, 1), Some(9));
        assert_eq!(table.find("web", source("2001:db8:0:1::1"), TTL, 1), None);
        table.bind("web", source("192.0.2.1"), 10, 2);
        assert_eq!(table.find("web", source("192.0.2.1"), TTL, 3), Some(10));
        assert_eq!(table.bindings(), 3);
    }

    #[test]
    fn who_is_connected_is_not_away() {
        let table = Affinity::new(1_000);
        let who = source("192.0.2.1");
        table.bind("web", who, 7, 0);
        table.ended("web", who, 7, TTL, 3_600_000);
        assert_eq!(table.find("web", who, TTL, 4_100_000), Some(7));
        // What it was given since then is newer.
        table.bind("web", who, 8, 4_100_000);
        table.ended("web", who, 7, TTL, 4_200_000);
        assert_eq!(table.find("web", who, TTL, 4_300_000), Some(8));
        table.ended("web", who, 7, TTL, 9_000_000);
        assert_eq!(table.find("web", who, TTL, 9_000_000), Some(7));
    }

    #[test]
    fn a_flood_takes_no_more_memory_and_the_recent_stay() {
        let table = Affinity::new(4_096);
        let room: usize = table.shards.iter().map(|shard| lock(shard).buckets.len() * WAYS).sum();
        assert!((4_096..4_096 + WAYS * SHARDS).contains(&room));
        for n in 0..200_000u32 {
            table.bind("web", Source::V4(n), n, u64::from(n));
        }
        assert!(table.bindings() <= room && table.bindings() > room * 9 / 10);
        let kept = |range: std::ops::Range<u32>| {
            range.filter(|n| table.find("web", Source::V4(*n), TTL, 200_000) == Some(*n)).count()
        };
        assert!(kept(199_000..200_000) > 950, "the newest quarter is nearly whole");
        assert_eq!(kept(0..100_000), 0, "and the old are gone");
    }

    #[test]
    fn its_bound_is_the_process_s() {
        assert!(
            Affinity::new(usize::MAX).shards.len()
                * lock(&Affinity::new(usize::MAX).shards[0]).buckets.len()
                * WAYS
                <= Affinity::MOST + WAYS * SHARDS
        );
        assert_eq!(std::mem::size_of::<Binding>(), 16);
    }

    proptest! {
        /// As long as there is room, it is a map with a time to live.
        #[test]
        fn it_is_a_map_that_forgets(steps in prop::collection::vec((0..20u32, 0..4u8, 0..3u32, 0..200u64), 1..200)) {
            let table = Affinity::new(100_000);
            let mut model: HashMap<u32, (u32, u64)> = HashMap::new();
            let ttl = Duration::from_millis(STEP_MS * 500);
            let mut now = 0;
            for (n, what, backend, passes) in steps {
                now += passes * STEP_MS;
                let who = Source::V4(n);
                let fresh = model.get(&n).copied().filter(|(_, seen)| now - seen < STEP_MS * 500);
                match what {
                    0 => {
                        table.bind("web", who, backend, now);
                        model.insert(n, (backend, now));
                    }
                    1 => {
                        table.ended("web", who, backend, ttl, now);
                        if fresh.is_none_or(|(bound, _)| bound == backend) {
                            model.insert(n, (backend, now));
                        }
                    }
                    _ => {
                        prop_assert_eq!(table.find("web", who, ttl, now), fresh.map(|(bound, _)| bound));
                        match fresh {
                            Some((bound, _)) => model.insert(n, (bound, now)),
                            None => model.remove(&n),
                        };
                    }
                }
            }
            prop_assert_eq!(table.bindings(), model.len());
        }
    }
}
