//! How many handshakes one source may begin: a token bucket for each, in a table of a fixed size.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Bounds of the buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes per second of one source (IPv4 /32, IPv6 /64).
    pub rate: u32,
    /// Handshakes that a source may begin at once after a rest.
    pub burst: u32,
    /// Sources that have a bucket of their own. The rest share one.
    pub sources: usize,
    /// Handshakes per second, of all sources, from which on an address must be proven by a cookie.
    pub under_load: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rate: 20, burst: 40, sources: 4096, under_load: 100 }
    }
}

/// One bucket for each source, and one for all that found no room.
#[derive(Debug)]
pub struct Buckets {
    limits: Limits,
    own: HashMap<Source, Bucket>,
    /// INVARIANT: a flood from many sources empties this one, and no bucket of another source.
    shared: Bucket,
    swept: Instant,
}

/// An IPv4 address, or an IPv6 /64: whoever has one address of it has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    Net64(u64),
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Thousandths of a handshake.
    tokens: u64,
    filled: Instant,
}

impl Buckets {
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        let shared = Bucket { tokens: u64::from(limits.burst) * 1000, filled: now };
        Self { limits, own: HashMap::new(), shared, swept: now }
    }

    /// Takes a token for one handshake from `from`. False: it has none, refuse.
    pub fn take(&mut self, from: IpAddr, now: Instant) -> bool {
        let source = Source::of(from);
        if !self.own.contains_key(&source) && !self.has_room(now) {
            return self.shared.take(self.limits, now);
        }
        let full = Bucket { tokens: u64::from(self.limits.burst) * 1000, filled: now };
        self.own.entry(source).or_insert(full).take(self.limits, now)
    }

    /// Sources with a bucket of their own.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// Room for one more, after sweeping out full buckets, which say no more than none. A sweep walks the whole
    /// table, so there is one a second at most.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.own.len() < self.limits.sources {
            return true;
        }
        if now.saturating_duration_since(self.swept) < Duration::from_secs(1) {
            return false;
        }
        self.swept = now;
        let limits = self.limits;
        self.own.retain(|_, bucket| !bucket.is_full(limits, now));
        self.own.len() < self.limits.sources
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::Net64((address.to_bits() >> 64) as u64),
        }
    }
}

impl Bucket {
    fn level(&self, limits: Limits, now: Instant) -> u64 {
        let rest = now.saturating_duration_since(self.filled).as_millis().min(1_000_000) as u64;
        (self.tokens + rest * u64::from(limits.rate)).min(u64::from(limits.burst) * 1000)
    }

    fn is_full(&self, limits: Limits, now: Instant) -> bool {
        self.level(limits, now) == u64::from(limits.burst) * 1000
    }

    fn take(&mut self, limits: Limits, now: Instant) -> bool {
        let level = self.level(limits, now);
        // A clock that seems to stand or go back gives no tokens and takes none.
        self.filled = self.filled.max(now);
        self.tokens = level.saturating_sub(if level >= 1000 { 1000 } else { 0 });
        level >= 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { rate: 10, burst: 5, sources: 8, under_load: 100 };

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_a_burst_and_a_rate() {
        let start = Instant::now();
        let mut buckets = Buckets::new(LIMITS, start);
        let mut taken = |from: &str, ms: u64| {
            let now = start + Duration::from_millis(ms);
            (0..100).filter(|_| buckets.take(at(from), now)).count()
        };
        // source, milliseconds, handshakes allowed of 100
        let table = [
            ("192.0.2.1", 0, 5),
            ("::ffff:192.0.2.1", 0, 0),
            ("192.0.2.2", 0, 5),
            ("192.0.2.1", 99, 0),
            ("192.0.2.1", 200, 2),
            ("192.0.2.1", 60_000, 5),
            ("192.0.2.1", 59_000, 0),
            ("2001:db8::1", 60_000, 5),
            ("2001:db8::ffff:2", 60_000, 0),
            ("2001:db8:0:1::1", 60_000, 5),
        ];
        for (from, ms, allowed) in table {
            assert_eq!(taken(from, ms), allowed, "{from} at {ms} ms");
        }
    }

    #[test]
    fn a_flood_of_sources_neither_grows_the_table_nor_locks_out_who_is_in_it() {
        let start = Instant::now();
        let mut buckets = Buckets::new(LIMITS, start);
        assert!(buckets.take(at("192.0.2.1"), start));
        let flood = |buckets: &mut Buckets, now| {
            (0..100_000u32)
                .filter(|n| buckets.take(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), now))
                .count()
        };
        // Seven find room, the rest share one burst.
        assert_eq!(flood(&mut buckets, start), 7 + 5);
        assert_eq!(buckets.len(), LIMITS.sources);
        assert!(buckets.take(at("192.0.2.1"), start));
        // Later, those that rest are swept out and newcomers find room.
        let later = start + Duration::from_secs(2);
        assert!(buckets.take(at("198.51.100.1"), later));
        assert_eq!(buckets.len(), 1);
    }
}
