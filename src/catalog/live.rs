//! What all workers count together of one backend, so that no limit has a gap between check and act.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// One backend's counts. It outlives configurations as long as the backend keeps service, id, address and port.
#[derive(Debug)]
pub struct Live {
    serial: u32,
    connections: AtomicU32,
    /// Milliseconds on the process's clock; 0: not ejected. In the past: what follows is tried first.
    ejected_until: AtomicU64,
    /// Failures in a row.
    pub failures: AtomicU32,
    /// How often it was ejected without a long peace.
    pub ejections: AtomicU32,
    /// When its last ejection ended or will end, in milliseconds on the process's clock: peace counts from here.
    pub peace_from: AtomicU64,
    /// When the trial that is under way lapses, in milliseconds on the process's clock; 0: there is none.
    trial: AtomicU64,
    pub carried: Carried,
}

/// What a backend was given since the process started.
#[derive(Debug, Default)]
pub struct Carried {
    /// Connections that reached it.
    pub connections: AtomicU64,
    /// Attempts that did not, and resets before its first octet.
    pub failures: AtomicU64,
    pub up: AtomicU64,
    pub down: AtomicU64,
}

/// Where a backend stands with passive health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is held against it.
    In,
    /// Ejected for so many more milliseconds.
    Out(u64),
    /// Its ejection is over, and the next connection may be its trial.
    MayBeTried,
    /// Its ejection is over, and one connection is its trial now.
    OnTrial,
}

impl Default for Live {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self {
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
            connections: AtomicU32::default(),
            ejected_until: AtomicU64::default(),
            failures: AtomicU32::default(),
            ejections: AtomicU32::default(),
            peace_from: AtomicU64::default(),
            trial: AtomicU64::default(),
            carried: Carried::default(),
        }
    }
}

impl Live {
    /// A number that no other backend of this process has: what bindings of clients remember.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Takes a place, if there are fewer connections than `hard_limit` (0: no limit). The check and the act are one.
    #[must_use]
    pub fn take(self: &Arc<Self>, hard_limit: u32) -> Option<Place> {
        let limit = if hard_limit == 0 { u32::MAX } else { hard_limit };
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| (open < limit).then(|| open + 1))
            .ok()
            .map(|_| Place { live: Arc::clone(self), trial: 0, in_panic: false })
    }

    /// Takes a place as [`Live::take`] does, but none while it is ejected, and after that one at a time, as its
    /// trial. A trial ends with its place, with the first success, or after `trial_ms` milliseconds: a connection
    /// on which nobody speaks proves nothing and must not keep others from trying.
    #[must_use]
    pub fn take_standing(self: &Arc<Self>, hard_limit: u32, now_ms: u64, trial_ms: u64) -> Option<Place> {
        match self.standing(now_ms) {
            Standing::In => self.take(hard_limit),
            Standing::Out(_) | Standing::OnTrial => None,
            Standing::MayBeTried => {
                let lapses = now_ms + trial_ms.max(1);
                let begin = |trial| (trial <= now_ms).then_some(lapses);
                self.trial.fetch_update(Ordering::AcqRel, Ordering::Relaxed, begin).ok()?;
                let mut place = self.take(hard_limit);
                match &mut place {
                    Some(place) => place.trial = lapses,
                    None => self.end_trial(lapses),
                }
                place
            }
        }
    }

    /// Where it stands with passive health.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> Standing {
        match self.ejected_until() {
            0 => Standing::In,
            until if until > now_ms => Standing::Out(until - now_ms),
            _ if self.trial.load(Ordering::Acquire) > now_ms => Standing::OnTrial,
            _ => Standing::MayBeTried,
        }
    }

    /// Connections at this moment.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Until when it is ejected, in milliseconds on the process's clock; 0: it is not.
    #[must_use]
    pub fn ejected_until(&self) -> u64 {
        self.ejected_until.load(Ordering::Acquire)
    }

    /// Ejects it until then; 0 takes it back.
    pub fn eject_until(&self, until: u64) {
        self.ejected_until.store(until, Ordering::Release);
    }

    /// Takes it back, unless it was ejected anew since `until` was read. Says whether it was taken back.
    pub fn take_back(&self, until: u64) -> bool {
        self.ejected_until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Ends the trial that would lapse then. Any other goes on.
    fn end_trial(&self, lapses: u64) {
        let _ = self.trial.compare_exchange(lapses, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}

/// A backend that failed clients: its checks should look at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub service: Arc<str>,
    pub backend: Arc<str>,
}

/// A connection's place at a backend, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    live: Arc<Live>,
    /// When the trial that this connection is lapses; 0: it is none.
    trial: u64,
    /// It was taken when too few backends were healthy to believe in their health.
    pub(super) in_panic: bool,
}

impl Place {
    /// Whether this connection decides if its backend comes back from an ejection.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        self.trial != 0
    }

    /// Whether too few backends were healthy, so that all of them were used.
    #[must_use]
    pub fn is_in_panic(&self) -> bool {
        self.in_panic
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.connections.fetch_sub(1, Ordering::AcqRel);
        if self.is_trial() {
            self.live.end_trial(self.trial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_place_has_one_winner() {
        for _ in 0..20 {
            let live = Arc::new(Live::default());
            let _held: Vec<_> = (0..3).map(|_| live.take(4).unwrap()).collect();
            let race = |_| {
                let live = Arc::clone(&live);
                std::thread::spawn(move || live.take(4))
            };
            let racers: Vec<_> = (0..50).map(race).collect();
            let places: Vec<_> = racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect();
            assert_eq!((places.len(), live.connections()), (1, 4));
            drop(places);
            assert_eq!(live.connections(), 3);
        }
    }

    #[test]
    fn no_limit_is_no_limit() {
        let live = Arc::new(Live::default());
        let places: Vec<_> = (0..1_000).map(|_| live.take(0).unwrap()).collect();
        assert_eq!(live.connections() as usize, places.len());
    }

    #[test]
    fn after_an_ejection_one_tries_at_a_time() {
        let live = Arc::new(Live::default());
        live.eject_until(1_000);
        assert_eq!(live.standing(999), Standing::Out(1));
        assert!(live.take_standing(0, 999, 500).is_none());
        assert_eq!(live.standing(1_000), Standing::MayBeTried);
        let trial = live.take_standing(0, 1_000, 500).unwrap();
        assert!(trial.is_trial());
        assert_eq!(live.standing(1_000), Standing::OnTrial);
        assert!(live.take_standing(0, 1_499, 500).is_none());
        // It lapses, and the next one's end is not the first one's business.
        let next = live.take_standing(0, 1_500, 500).unwrap();
        drop(trial);
        assert_eq!(live.standing(1_500), Standing::OnTrial);
        drop(next);
        assert_eq!((live.standing(1_500), live.connections()), (Standing::MayBeTried, 0));
        // A place that is not to be had gives the trial back.
        let _full = live.take(1).unwrap();
        assert!(live.take_standing(1, 1_600, 500).is_none());
        assert_eq!(live.standing(1_600), Standing::MayBeTried);
    }

    #[test]
    fn a_trial_has_one_winner() {
        for _ in 0..300 {
            let live = Arc::new(Live::default());
            live.eject_until(1_000);
            let start = Arc::new(std::sync::Barrier::new(4));
            let race = |_| {
                let (live, start) = (Arc::clone(&live), Arc::clone(&start));
                std::thread::spawn(move || {
                    start.wait();
                    live.take_standing(0, 1_000, 500)
                })
            };
            let racers: Vec<_> = (0..4).map(race).collect();
            let trials: Vec<_> = racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect();
            assert_eq!(trials.len(), 1);
        }
    }

    #[test]
    fn a_newer_ejection_stays() {
        let live = Live::default();
        live.eject_until(1_000);
        live.eject_until(5_000);
        assert!(!live.take_back(1_000));
        assert_eq!(live.ejected_until(), 5_000);
        assert!(live.take_back(5_000));
        assert_eq!(live.standing(0), Standing::In);
    }
}
