//! Leases: who serves renews, and who does not is not believed for longer than a lease (decision rule 2).
//!
//! The [`Board`] is written by the thread that feels the pulse of the workers and read by all: nothing but atomics.
//! [`jitter`] measures how evenly renewals come, so that a lease is never shorter than what this machine can keep.
//! [`paths`] is the other half of the proof: what connections of our own found between a listener and a backend.

pub mod jitter;
pub mod paths;
mod waits;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jitter::Jitter;
use waits::Waits;

/// Renewals that are due in one lease: three in a row may be lost.
pub const RENEWALS: u32 = 4;
/// However unevenly renewals come, a lease grows to this and no further. A worker that hangs draws clients for as long
/// as its lease, and past two seconds those have given up; where renewals come half a second late more often than
/// once in ten thousand, it is better to withdraw, because clients feel the same.
pub const LONGEST_LEARNED: Duration = Duration::from_secs(2);
/// A lease is so many times the p99.99 of the jitter at least.
const MARGIN: u32 = 4;
/// How often the lease is worked out anew.
const LEARN_EVERY: Duration = Duration::from_secs(1);

/// When each worker last served, and how long that is believed.
#[derive(Debug)]
pub struct Board {
    epoch: Instant,
    /// Nanoseconds since the epoch; [`NEVER`] until it has served since it was last told to.
    renewed: Vec<AtomicU64>,
    /// As configured, in nanoseconds.
    configured: AtomicU64,
    /// In effect, in nanoseconds.
    effective: AtomicU64,
    learned: AtomicU64,
    waits: Vec<Waits>,
    /// What each worker has done; written by it alone.
    deeds: Vec<Deeds>,
    jitter: Jitter,
    /// Its quantiles when the lease was last worked out, in nanoseconds.
    quantiles: [AtomicU64; jitter::QUANTILES.len()],
}

/// A cache line for each worker: they count at the same time.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Deeds {
    done: AtomicU64,
}

const NEVER: u64 = 0;

/// The leases of all workers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The first worker that has not served yet.
    pub never: Option<usize>,
    /// The worker that has served nothing for longest, and for how long, of those that have ever.
    pub oldest: Option<(usize, Duration)>,
}

impl Board {
    /// For so many workers; `epoch` is before every renewal, `time` as configured.
    #[must_use]
    pub fn new(workers: usize, epoch: Instant, time: Duration) -> Self {
        Self {
            epoch,
            renewed: (0..workers).map(|_| AtomicU64::new(NEVER)).collect(),
            configured: AtomicU64::new(nanos(time)),
            effective: AtomicU64::new(nanos(time)),
            learned: AtomicU64::new(0),
            waits: (0..workers).map(|_| Waits::default()).collect(),
            deeds: (0..workers).map(|_| Deeds::default()).collect(),
            jitter: Jitter::default(),
            quantiles: Default::default(),
        }
    }

    /// Another lease time is configured.
    pub fn configure(&self, time: Duration) {
        if self.configured.swap(nanos(time), Ordering::Relaxed) != nanos(time) {
            self.learn();
        }
    }

    /// How often each worker is meant to renew.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        Duration::from_nanos(self.configured.load(Ordering::Relaxed)) / RENEWALS
    }

    /// To be called by the worker itself: what the kernel says of its thread is looked at when it was silent.
    pub fn enroll(&self, worker: usize) {
        self.waits[worker].begin();
    }

    /// To be called by the worker itself, whenever it has done something for a client.
    pub fn serve(&self, worker: usize) {
        let done = &self.deeds[worker].done;
        // Nobody else writes here.
        done.store(done.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// What a worker has done so far: another number than before says that it has served since.
    #[must_use]
    pub fn deeds(&self, worker: usize) -> u64 {
        self.deeds[worker].done.load(Ordering::Acquire)
    }

    /// A worker has served. One thread renews for all of them.
    pub fn renew(&self, worker: usize, now: Instant) {
        let at = self.since_epoch(now).max(NEVER + 1);
        // Release: whoever reads this time sees all that was done by then.
        let before = self.renewed[worker].swap(at, Ordering::AcqRel);
        if before == NEVER {
            return;
        }
        let late = at.saturating_sub(before).saturating_sub(nanos(self.renew_every()));
        // A silence that outlasted the lease was told as such. It says how evenly renewals come only where the worker
        // was waiting for a processor: from a worker that hung, the next hang must not win time.
        let outlasted = at - before > self.effective.load(Ordering::Relaxed);
        if !outlasted || self.waits[worker].explain(at - before) {
            self.jitter.record(Duration::from_nanos(late), Duration::from_nanos(at));
        }
        if at.saturating_sub(self.learned.load(Ordering::Relaxed)) >= nanos(LEARN_EVERY) {
            self.learned.store(at, Ordering::Relaxed);
            self.learn();
        }
    }

    /// Nobody asks the worker to serve any more: silence means nothing until it serves again.
    pub fn rest(&self, worker: usize) {
        self.renewed[worker].store(NEVER, Ordering::Release);
    }

    /// Where all workers are. Take `now` first: what is renewed meanwhile is of age zero.
    #[must_use]
    pub fn read(&self, now: Instant) -> Reading {
        let mut reading = Reading::default();
        for (worker, age) in self.ages(now).enumerate() {
            match age {
                None => reading.never = reading.never.or(Some(worker)),
                Some(age) if reading.oldest.is_none_or(|(_, oldest)| age > oldest) => {
                    reading.oldest = Some((worker, age));
                }
                Some(_) => {}
            }
        }
        reading
    }

    /// How long ago each worker served, in their order; None: not yet.
    pub fn ages(&self, now: Instant) -> impl Iterator<Item = Option<Duration>> {
        let now = self.since_epoch(now);
        self.renewed.iter().map(move |renewed| match renewed.load(Ordering::Acquire) {
            NEVER => None,
            at => Some(Duration::from_nanos(now.saturating_sub(at))),
        })
    }

    /// How long a renewal is believed.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_nanos(self.effective.load(Ordering::Relaxed))
    }

    /// By how much renewals come late: each of [`jitter::QUANTILES`] with its value.
    pub fn jitter(&self) -> impl Iterator<Item = (f64, Duration)> {
        let values = self.quantiles.iter().map(|it| Duration::from_nanos(it.load(Ordering::Relaxed)));
        jitter::QUANTILES.into_iter().zip(values)
    }

    fn learn(&self) {
        self.waits.iter().for_each(Waits::look);
        let measured = jitter::QUANTILES.map(|quantile| self.jitter.quantile(quantile));
        for (slot, value) in self.quantiles.iter().zip(measured) {
            slot.store(nanos(value), Ordering::Relaxed);
        }
        let configured = Duration::from_nanos(self.configured.load(Ordering::Relaxed));
        let lease = lease_of(configured, measured[measured.len() - 1]);
        self.effective.store(nanos(lease), Ordering::Relaxed);
    }

    fn since_epoch(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.epoch))
    }
}

/// The lease in effect: as configured, or as long as the machine needs, within bounds.
fn lease_of(configured: Duration, worst: Duration) -> Duration {
    configured.max(worst.saturating_mul(MARGIN).min(LONGEST_LEARNED))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(60);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_oldest_of_those_that_served_is_told_and_who_never_did() {
        let epoch = Instant::now();
        let board = Board::new(3, epoch, TIME);
        let at = |ms| epoch + millis(ms);
        assert_eq!(board.read(at(5)), Reading { never: Some(0), oldest: None });
        board.renew(0, at(0));
        board.renew(2, at(10));
        assert_eq!(board.read(at(50)).never, Some(1));
        // Age is told to the nanosecond, but the very first one is not zero: that means never.
        assert_eq!(board.read(at(50)).oldest.map(|(worker, _)| worker), Some(0));
        board.renew(1, at(40));
        board.renew(0, at(45));
        assert_eq!(board.read(at(50)), Reading { never: None, oldest: Some((2, millis(40))) });
        // What is renewed after the clock was asked is not in the future.
        assert_eq!(board.read(at(1)).oldest, Some((0, Duration::ZERO)));
        board.rest(2);
        assert_eq!(board.read(at(50)), Reading { never: Some(2), oldest: Some((1, millis(10))) });
        assert_eq!(board.ages(at(50)).collect::<Vec<_>>(), [Some(millis(5)), Some(millis(10)), None]);
    }

    #[test]
    fn a_board_without_workers_has_nothing_to_tell() {
        let now = Instant::now();
        assert_eq!(Board::new(0, now, TIME).read(now), Reading::default());
    }

    #[test]
    fn the_lease_follows_the_jitter_within_bounds() {
        let table = [
            (60, 0, 60),
            (60, 15, 60),
            (60, 16, 64),
            (60, 499, 1996),
            (60, 500, 2000),
            (60, 9_000, 2000),
            (5_000, 9_000, 5_000),
        ];
        for (configured, worst, lease) in table {
            assert_eq!(lease_of(millis(configured), millis(worst)), millis(lease), "{configured} {worst}");
        }
    }

    #[test]
    fn renewals_that_come_late_make_the_lease_longer_within_a_second_and_are_forgotten_in_time() {
        let epoch = Instant::now();
        let board = Board::new(1, epoch, TIME);
        assert_eq!(board.renew_every(), millis(15));
        let mut now = epoch;
        let mut renew = |gap: u64, times: u64| {
            for _ in 0..times {
                now += millis(gap);
                board.renew(0, now);
            }
            board.lease()
        };
        assert_eq!(renew(15, 200), TIME);
        // 40 ms late, once.
        let lease = {
            renew(55, 1);
            renew(15, 100)
        };
        assert!((millis(160)..=millis(200)).contains(&lease), "{lease:?}");
        let worst = board.jitter().last().unwrap();
        assert!(worst.0 == 0.9999 && worst.1 >= millis(40), "{worst:?}");
        assert_eq!(renew(15, 600_000 / 15), TIME);
    }

    #[test]
    fn a_rest_is_no_jitter_and_another_configured_time_counts_at_once() {
        let epoch = Instant::now();
        let board = Board::new(1, epoch, TIME);
        board.renew(0, epoch + millis(10));
        board.rest(0);
        board.renew(0, epoch + millis(60_000));
        board.renew(0, epoch + millis(60_015));
        board.configure(millis(200));
        assert_eq!((board.lease(), board.renew_every()), (millis(200), millis(50)));
        board.configure(TIME);
        assert_eq!(board.lease(), TIME);
    }
}
