//! How far the other POPs are: told to all, when it has changed by much.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Replicator;
use crate::catalog::fleet::Link;

/// How often it is told, at most.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// After a connection was replaced, when the old one ends: by then both ends use the new one.
const REPLACED: Duration = Duration::from_secs(1);
/// No POP tells more than this many: the nearest.
const MOST: usize = 128;
/// What a round trip may move without being told anew: a quarter, and this many microseconds.
const LITTLE: u64 = 2_000;

impl Replicator {
    pub(super) fn measure(&mut self, now: Instant) {
        self.measure_at = now + EVERY;
        self.replaced.retain(|_, (since, _)| now.saturating_duration_since(*since) < REPLACED);
        let tunnels = Arc::clone(&self.ends.tunnels.borrow());
        let mut measured: BTreeMap<Arc<str>, Duration> = BTreeMap::new();
        for (peer, link) in &self.links {
            measured.insert(peer.name(), link.connection.rtt());
        }
        // Probes say it more exactly than a connection that is busy.
        for (peer, tunnel) in tunnels.iter().filter(|(_, tunnel)| tunnel.up) {
            if let Some(rtt) = tunnel.rtt {
                measured.insert(Arc::clone(peer), rtt);
            }
        }
        let told = told(&self.distances, &measured);
        if told != self.distances {
            self.distances = told;
            self.say();
        }
    }
}

/// What is told, after what was told before.
fn told(
    before: &BTreeMap<Arc<str>, Link>,
    measured: &BTreeMap<Arc<str>, Duration>,
) -> BTreeMap<Arc<str>, Link> {
    let told = measured.iter().map(|(peer, rtt)| {
        let rtt_us = rtt.as_micros() as u64;
        let old = before.get(peer).filter(|old| old.rtt_us.abs_diff(rtt_us) <= LITTLE + old.rtt_us / 4);
        (Arc::clone(peer), old.copied().unwrap_or(Link { rtt_us }))
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(_, link)| link.rtt_us);
    told.truncate(MOST);
    told.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_little_is_not_told_anew() {
        let measured = |all: &[(&str, u64)]| {
            all.iter().map(|(peer, us)| (Arc::from(*peer), Duration::from_micros(*us))).collect()
        };
        let first = told(&BTreeMap::new(), &measured(&[("fra1", 80_000), ("gru1", 900)]));
        assert_eq!(first["fra1"], Link { rtt_us: 80_000 });
        assert_eq!(told(&first, &measured(&[("fra1", 95_000), ("gru1", 2_500)])), first);
        let moved = told(&first, &measured(&[("fra1", 130_000)]));
        assert_eq!(moved, BTreeMap::from([(Arc::from("fra1"), Link { rtt_us: 130_000 })]));
    }

    #[test]
    fn of_many_the_nearest_are_told() {
        let measured = (0..1_000u64).map(|n| (Arc::from(format!("p{n}")), Duration::from_millis(1_000 - n)));
        let told = told(&BTreeMap::new(), &measured.collect());
        assert_eq!(told.len(), MOST);
        assert!(told.contains_key("p999") && !told.contains_key("p0"));
    }
}
