//! Passive health: backends that fail clients in a row leave the choice for a time that grows, and come back by a
//! trial.
//!
//! A failure is what a backend did to a connection that it was given: refused it, did not answer in time, or reset it
//! before its first octet. A success is its first octet. [`Standing`](crate::catalog::live::Standing) says what
//! follows for the choice.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::catalog::backend::Verdict;
use crate::catalog::live::Live;
use crate::catalog::service::Service;
use crate::config::services::Ejection;

/// What a failure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It is counted, or nothing is done about failures here.
    Counted,
    /// The backend is out.
    Ejected(Ejected),
    /// It would be, if others were not.
    Spared(Spared),
}

impl Failed {
    /// Whether active checks should look at this backend at once.
    #[must_use]
    pub fn wants_probe(self) -> bool {
        self != Self::Counted
    }
}

/// An ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejected {
    /// In milliseconds on the process's clock.
    pub until_ms: u64,
    pub time: Duration,
    /// How many there were without a long peace, with this one.
    pub times: u32,
}

/// Why a backend that failed often enough stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spared {
    /// So many are out already that no more may be.
    Share,
    /// It is the last: a bad backend is better than none.
    Last,
}

/// Ejections are counted and decided by one thread at a time, over all services: they are rare, and two at once could
/// pass the share together.
static DECIDING: Mutex<()> = Mutex::new(());

/// Takes the failure of a backend. `now_ms`: on the process's clock.
///
/// INVARIANT: never more than [`most_out`] backends of a service are out, and each comes back within `max_time`.
pub fn failed(service: &Service, index: usize, now_ms: u64) -> Failed {
    let Some((rule, backend)) = service.forwarding.ejection.as_ref().zip(service.backends.get(index)) else {
        return Failed::Counted;
    };
    let live = &*backend.live;
    // A connection from before the ejection says what is known.
    if live.ejected_until() > now_ms {
        return Failed::Counted;
    }
    let failures = live.failures.fetch_add(1, Relaxed).saturating_add(1);
    let is_over = |failures: u32| live.ejected_until() != 0 || failures >= rule.failures;
    if !is_over(failures) {
        return Failed::Counted;
    }
    let _deciding = DECIDING.lock().unwrap_or_else(PoisonError::into_inner);
    // Another thread may have been quicker: with the ejection, or with a success.
    if live.ejected_until() > now_ms || !is_over(live.failures.load(Relaxed)) {
        return Failed::Counted;
    }
    match spared(service, index, rule, now_ms) {
        None => Failed::Ejected(eject(live, rule, now_ms)),
        // Said once for each row of so many: probes and the journal need no more.
        Some(why) if failures.is_multiple_of(rule.failures.max(1)) => Failed::Spared(why),
        Some(_) => Failed::Counted,
    }
}

/// Takes the success of a backend. True: its ejection is forgotten, it is a backend like any other again.
pub fn served(service: &Service, index: usize, now_ms: u64) -> bool {
    let Some(backend) = service.backends.get(index) else { return false };
    let live = &*backend.live;
    // Looked at first, so that all is well costs no write.
    if live.failures.load(Relaxed) != 0 {
        live.failures.store(0, Relaxed);
    }
    let until = live.ejected_until();
    // A connection from before the ejection does not end it.
    until != 0 && until <= now_ms && live.take_back(until)
}

/// How many of `backends` may be out at once: the share, and always one.
#[must_use]
pub fn most_out(rule: &Ejection, backends: usize) -> usize {
    (backends * usize::from(rule.share.min(100)) / 100).max(1)
}

fn spared(service: &Service, index: usize, rule: &Ejection, now_ms: u64) -> Option<Spared> {
    let (mut out, mut left) = (0, 0);
    for (_, backend) in service.backends.iter().enumerate().filter(|(other, _)| *other != index) {
        let until = backend.live.ejected_until();
        out += usize::from(until > now_ms);
        // What has yet to be tried is not relied on.
        left += usize::from(until == 0 && backend.known.verdict == Verdict::Up && !backend.drain);
    }
    if left == 0 {
        return Some(Spared::Last);
    }
    (out >= most_out(rule, service.backends.len())).then_some(Spared::Share)
}

fn eject(live: &Live, rule: &Ejection, now_ms: u64) -> Ejected {
    let longest = (rule.max_time.as_millis() as u64).max(1);
    let first = (rule.time.as_millis() as u64).clamp(1, longest);
    // One is forgiven for each longest time of peace. More than the longest time needs would only delay that.
    let forgiven = now_ms.saturating_sub(live.peace_from.load(Relaxed)) / longest;
    let most = u64::from(longest.div_ceil(first).next_power_of_two().ilog2()) + 1;
    let before = u64::from(live.ejections.load(Relaxed)).saturating_sub(forgiven);
    let times = (before + 1).min(most);
    let time = first.checked_shl(times as u32 - 1).unwrap_or(longest).min(longest);
    let until_ms = now_ms + time;
    live.ejections.store(times as u32, Relaxed);
    live.peace_from.store(until_ms, Relaxed);
    live.failures.store(0, Relaxed);
    live.eject_until(until_ms);
    Ejected { until_ms, time: Duration::from_millis(time), times: times as u32 }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::catalog::backend::{Backend, Known};
    use crate::catalog::live::Standing;
    use crate::config::services::Forwarding;

    const RULE: Ejection =
        Ejection { failures: 3, time: Duration::from_secs(10), max_time: Duration::from_secs(60), share: 50 };

    fn service(backends: usize, rule: Ejection) -> Service {
        let backend = |index| Backend {
            id: format!("b{index}").into(),
            address: ([10, 0, 0, 1], 80).into(),
            pop: None,
            via_ingress: false,
            region: "sa".into(),
            far: 0,
            country: None,
            weight: 2,
            soft_limit: 100,
            hard_limit: 150,
            drain: false,
            known: Known { verdict: Verdict::Up, since: None, rtt: None },
            live: Arc::default(),
        };
        let forwarding = Forwarding { ejection: Some(rule), ..Forwarding::default() };
        Service { name: "web".into(), forwarding, backends: (0..backends).map(backend).collect() }
    }

    fn fail(service: &Service, index: usize, times: u32, now_ms: u64) -> Failed {
        (0..times).fold(Failed::Counted, |_, _| failed(service, index, now_ms))
    }

    fn ejected(until_ms: u64, seconds: u64, times: u32) -> Failed {
        Failed::Ejected(Ejected { until_ms, time: Duration::from_secs(seconds), times })
    }

    fn standing(service: &Service, index: usize, now_ms: u64) -> Standing {
        service.backends[index].live.standing(now_ms)
    }

    #[test]
    fn failures_in_a_row_eject() {
        let service = service(3, RULE);
        assert_eq!(fail(&service, 0, 2, 1_000), Failed::Counted);
        assert!(!served(&service, 0, 1_000));
        assert_eq!(fail(&service, 0, 2, 1_000), Failed::Counted);
        assert_eq!(fail(&service, 0, 1, 1_000), ejected(11_000, 10, 1));
        // Those that were on their way say nothing new, either way.
        assert_eq!(fail(&service, 0, 9, 2_000), Failed::Counted);
        assert!(!served(&service, 0, 2_000));
        assert_eq!(standing(&service, 0, 10_999), Standing::Out(1));
        assert_eq!(standing(&service, 0, 11_000), Standing::MayBeTried);
        assert_eq!(standing(&service, 1, 2_000), Standing::In);
    }

    #[test]
    fn a_trial_decides() {
        let service = service(3, RULE);
        fail(&service, 0, 3, 1_000);
        // It fails: longer. And again, but never longer than the longest.
        assert_eq!(failed(&service, 0, 11_000), ejected(31_000, 20, 2));
        assert_eq!(failed(&service, 0, 31_000), ejected(71_000, 40, 3));
        assert_eq!(failed(&service, 0, 71_000), ejected(131_000, 60, 4));
        assert_eq!(failed(&service, 0, 131_000), ejected(191_000, 60, 4));
        // It succeeds: back at once, and failures are counted from none.
        assert!(served(&service, 0, 191_000));
        assert_eq!(standing(&service, 0, 191_000), Standing::In);
        assert_eq!(fail(&service, 0, 2, 191_000), Failed::Counted);
        assert_eq!(failed(&service, 0, 192_000), ejected(252_000, 60, 4));
        assert!(served(&service, 0, 252_000));
        // Peace is forgiven for each 60 s since it might come back.
        fail(&service, 0, 2, 252_000);
        assert_eq!(failed(&service, 0, 252_000 + 130_000), ejected(422_000, 40, 3));
        assert!(served(&service, 0, 422_000));
        fail(&service, 0, 2, 9_000_000);
        assert_eq!(failed(&service, 0, 9_000_000), ejected(9_010_000, 10, 1));
    }

    #[test]
    fn only_a_share_is_out_at_once() {
        // backends, share, most
        for (backends, share, most) in
            [(2, 50, 1), (3, 50, 1), (4, 50, 2), (10, 0, 1), (10, 29, 2), (4, 100, 3)]
        {
            let service = service(backends, Ejection { share, ..RULE });
            let out = (0..backends).map(|index| fail(&service, index, 3, 1_000));
            let out: Vec<_> = out.collect();
            let count = out.iter().filter(|it| matches!(it, Failed::Ejected(_))).count();
            assert_eq!(count, most, "{share} % of {backends}");
            assert!(out.iter().all(|it| it.wants_probe()));
            let why = if share == 100 || backends == 2 { Spared::Last } else { Spared::Share };
            assert_eq!(out[backends - 1], Failed::Spared(why));
        }
    }

    #[test]
    fn the_last_one_stays() {
        let alone = service(1, RULE);
        assert_eq!(fail(&alone, 0, 3, 1_000), Failed::Spared(Spared::Last));
        assert_eq!(fail(&alone, 0, 2, 1_000), Failed::Counted);
        assert_eq!(fail(&alone, 0, 1, 1_000), Failed::Spared(Spared::Last));
        assert_eq!(standing(&alone, 0, 1_000), Standing::In);
        for what in 0..3 {
            let mut both = service(2, RULE);
            match what {
                0 => both.backends[1].known.verdict = Verdict::Down,
                1 => both.backends[1].drain = true,
                // Not out any more, and not proven either.
                _ => both.backends[1].live.eject_until(500),
            }
            assert_eq!(fail(&both, 0, 3, 1_000), Failed::Spared(Spared::Last), "{what}");
        }
    }

    #[test]
    fn without_a_rule_nothing_happens() {
        let mut service = service(3, RULE);
        service.forwarding.ejection = None;
        assert_eq!(fail(&service, 0, 100, 1_000), Failed::Counted);
        assert_eq!(failed(&service, 99, 1_000), Failed::Counted);
    }

    #[test]
    fn threads_do_not_pass_the_share_together() {
        // So many that they take a while to count.
        for _ in 0..50 {
            let service = Arc::new(service(4_000, Ejection { failures: 1, share: 0, ..RULE }));
            let start = Arc::new(std::sync::Barrier::new(4));
            let race = |index| {
                let (service, start) = (Arc::clone(&service), Arc::clone(&start));
                std::thread::spawn(move || {
                    start.wait();
                    failed(&service, index, 1_000)
                })
            };
            let racers: Vec<_> = (0..4).map(race).collect();
            let out = racers.into_iter().map(|it| it.join().unwrap());
            assert_eq!(out.filter(|it| matches!(it, Failed::Ejected(_))).count(), 1);
        }
    }

    proptest! {
        /// Backends fail and serve at random, as the choice would let them.
        #[test]
        fn the_share_holds_and_every_ejection_ends(
            backends in 1..9usize, share in 0..=100u8, failures in 1..5u32, time in 1..30u64, longest in 1..90u64,
            steps in prop::collection::vec((0..9usize, 0..4u8, 0..20_000u64), 1..200),
        ) {
            let rule = Ejection {
                failures,
                time: Duration::from_secs(time),
                max_time: Duration::from_secs(longest),
                share,
            };
            let service = service(backends, rule);
            let mut now = 1;
            for (index, what, passes) in steps {
                let index = index % backends;
                let before = standing(&service, index, now);
                match what {
                    0 => {
                        let back = served(&service, index, now);
                        prop_assert_eq!(back, before == Standing::MayBeTried);
                    }
                    1 => now += passes,
                    _ => if let Failed::Ejected(it) = failed(&service, index, now) {
                        prop_assert!(!matches!(before, Standing::Out(_)));
                        prop_assert!(it.until_ms > now && it.until_ms <= now + longest.max(1) * 1_000);
                        prop_assert_eq!(standing(&service, index, now), Standing::Out(it.until_ms - now));
                    },
                }
                let out = (0..backends).filter(|it| matches!(standing(&service, *it, now), Standing::Out(_)));
                let out = out.count();
                prop_assert!(out <= most_out(&rule, backends) && (out < backends || backends == 0));
                let end = now + longest.max(1) * 1_000;
                prop_assert!((0..backends).all(|it| !matches!(standing(&service, it, end), Standing::Out(_))));
            }
        }
    }
}
