//! What connections of our own say of each service: pure.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Way;
use crate::config::proxy::Lease;
use crate::proxy::desk::Proof;
use crate::supervise::lease::paths::{Outcome, PathHealth, PathJudge, Paths};

/// One judge for each way in.
#[derive(Debug, Default)]
pub(super) struct Witness {
    judges: BTreeMap<Way, PathJudge>,
}

impl Witness {
    /// Takes the ways of a new plan. A way that was there before keeps what is known of it.
    pub(super) fn handle_ways(&mut self, ways: &[Way], lease: &Lease) {
        let mut before = std::mem::take(&mut self.judges);
        for way in ways {
            let known = before.remove(way);
            let mut judge = known.unwrap_or_else(|| {
                PathJudge::new(way.door.to_string(), lease.probe_fall, lease.probe_timeout)
            });
            judge.configure(lease.probe_fall, lease.probe_timeout);
            self.judges.insert(way.clone(), judge);
        }
    }

    /// Takes what became of one connection.
    pub(super) fn handle_proof(&mut self, way: &Way, proof: Proof, now: Instant) {
        let Some(judge) = self.judges.get_mut(way) else { return };
        let outcome = match proof {
            Proof::Served => Outcome::Served,
            Proof::Nobody => Outcome::NoBackend,
            Proof::Failed(words) => Outcome::Failed(words),
        };
        judge.handle_outcome(outcome, now);
    }

    /// Every service as its worst way in.
    pub(super) fn paths(&self) -> Paths {
        let mut ways: BTreeMap<String, Vec<PathHealth>> = BTreeMap::new();
        for (way, judge) in &self.judges {
            ways.entry(way.service.to_string()).or_default().push(judge.health());
        }
        let by_service = ways.into_iter().map(|(service, ways)| (service, PathHealth::worst(ways)));
        Paths { probing: true, by_service: by_service.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::listen::Protocol;
    use crate::proxy::plan::DoorKey;

    #[test]
    fn a_service_is_as_its_worst_door_and_a_door_that_stays_keeps_its_past() {
        let way = |port: u16, service: &str| Way {
            door: DoorKey { protocol: Protocol::Tcp, address: ([198, 51, 100, 1], port).into() },
            service: service.into(),
            tls: None,
        };
        let (one, two) = (way(80, "web"), way(443, "web"));
        let (mut witness, now) = (Witness::default(), Instant::now());
        witness.handle_ways(&[one.clone(), two.clone()], &Lease::default());
        witness.handle_proof(&one, Proof::Served, now);
        assert_eq!(witness.paths().by_service["web"], PathHealth::Unproven);
        witness.handle_proof(&two, Proof::Served, now);
        assert!(matches!(witness.paths().by_service["web"], PathHealth::Serving { .. }));
        for _ in 0..3 {
            witness.handle_proof(&two, Proof::Failed("refused".to_owned()), now);
        }
        assert!(matches!(witness.paths().by_service["web"], PathHealth::Failing { .. }));
        witness.handle_ways(std::slice::from_ref(&one), &Lease::default());
        assert!(matches!(witness.paths().by_service["web"], PathHealth::Serving { .. }));
        witness.handle_proof(&two, Proof::Served, now);
        assert_eq!(witness.paths().by_service.len(), 1);
    }
}
