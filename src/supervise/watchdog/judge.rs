//! Tells a thread that hangs from one that only waits for a processor, by what is seen of it at each look.

use std::time::{Duration, Instant};

/// Looks in the time after which silence is a hang.
const LOOKS: u32 = 6;

/// What one look saw of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    pub at: Instant,
    /// Beats of its heart so far.
    pub beats: u64,
    /// As in proc_pid_stat(5): `R` runs or could run, anything else waits for something.
    pub state: char,
    /// Processor time that it has used so far.
    pub used: Duration,
}

/// What follows from all looks so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It beats, or has not been silent for long.
    Well,
    /// It is silent because others have the processor.
    Starved,
    /// It has been silent for longer than the patience. Before the next look every processor is to be visited:
    /// one that the hypervisor holds back keeps its timers from those who sleep by them.
    Doubtful,
    /// It has been silent for longer than the patience, although it could have beaten.
    Hung,
}

/// The judge of one thread.
///
/// Only what the watchdog was awake for counts: a look charges at most two of its periods, so that a machine that
/// stood still, with the watchdog on it, proves nothing against anybody. A thread that waits is charged the time
/// that passed; one that runs, the processor time that it used. And silence alone is a doubt: it is a hang once the
/// thread has not beaten either after all processors were seen to work. So a hang takes at least five looks in a row.
#[derive(Debug)]
pub struct Judge {
    patience: Duration,
    last: Option<Sight>,
    silence: Duration,
    doubted: bool,
}

impl Judge {
    /// A thread that is charged more than `patience` without a beat hangs.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, last: None, silence: Duration::ZERO, doubted: false }
    }

    /// How far apart its looks, and the beats of the thread, are meant to be.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.patience / LOOKS
    }

    /// What it is charged with since its last beat.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// Takes the next look.
    pub fn handle_sight(&mut self, sight: Sight) -> Verdict {
        let Some(last) = self.last.replace(sight).filter(|last| last.beats == sight.beats) else {
            self.silence = Duration::ZERO;
            self.doubted = false;
            return Verdict::Well;
        };
        let passed = sight.at.saturating_duration_since(last.at).min(2 * self.period());
        let charge =
            if sight.state == 'R' { sight.used.saturating_sub(last.used).min(passed) } else { passed };
        self.silence += charge;
        if self.silence > self.patience {
            if std::mem::replace(&mut self.doubted, true) { Verdict::Hung } else { Verdict::Doubtful }
        } else if charge.is_zero() {
            Verdict::Starved
        } else {
            Verdict::Well
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(150);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A thread and its judge, in a time of their own.
    struct Play {
        judge: Judge,
        sight: Sight,
    }

    impl Play {
        /// The thread has just been seen after a beat.
        fn new() -> Self {
            let sight = Sight { at: Instant::now(), beats: 1, state: 'S', used: Duration::ZERO };
            let mut judge = Judge::new(PATIENCE);
            assert_eq!(judge.handle_sight(sight), Verdict::Well);
            Self { judge, sight }
        }

        fn look(&mut self, after: Duration, beats: u64, state: char, used: Duration) -> Verdict {
            let Sight { at, beats: before, used: used_before, .. } = self.sight;
            self.sight = Sight { at: at + after, beats: before + beats, state, used: used_before + used };
            self.judge.handle_sight(self.sight)
        }

        /// At which of as many looks as it takes, all alike and without a beat, it is found to hang.
        fn hung_at(mut self, after: u64, state: char, used: u64) -> Option<usize> {
            (1..=1_000).find(|_| self.look(ms(after), 0, state, ms(used)) == Verdict::Hung)
        }
    }

    #[test]
    fn silence_is_a_hang_unless_others_have_the_processor() {
        // Milliseconds between looks, state, processor time between looks; the look that finds it hanging.
        let cases = [
            // Asleep though its timer is due; on a disk; stopped; stopped by a tracer.
            (25, 'S', 0, Some(8)),
            (25, 'D', 0, Some(8)),
            (25, 'T', 0, Some(8)),
            (25, 't', 0, Some(8)),
            // A chain of short waits that never comes back to the runtime.
            (25, 'S', 12, Some(8)),
            // An endless loop, alone and with a tenth of a processor.
            (25, 'R', 25, Some(8)),
            (25, 'R', 2, Some(77)),
            // Starved.
            (25, 'R', 0, None),
            // A watchdog that wakes late still takes five looks.
            (500, 'S', 0, Some(5)),
            (500, 'R', 500, Some(5)),
        ];
        for (after, state, used, look) in cases {
            assert_eq!(Play::new().hung_at(after, state, used), look, "{after} ms {state} used {used} ms");
        }
    }

    #[test]
    fn a_beat_forgives_everything() {
        let mut play = Play::new();
        for _ in 0..100 {
            for _ in 0..5 {
                assert_eq!(play.look(ms(29), 0, 'S', ms(0)), Verdict::Well);
            }
            assert_eq!(play.look(ms(29), 1, 'S', ms(0)), Verdict::Well);
            assert_eq!(play.judge.silence(), Duration::ZERO);
        }
    }

    #[test]
    fn starvation_is_told_and_neither_counts_nor_forgives() {
        let mut play = Play::new();
        for _ in 0..5 {
            assert_eq!(play.look(ms(25), 0, 'S', ms(0)), Verdict::Well);
        }
        for _ in 0..1_000 {
            assert_eq!(play.look(ms(25), 0, 'R', ms(0)), Verdict::Starved);
        }
        assert_eq!(play.judge.silence(), ms(125));
        assert_eq!(play.look(ms(26), 0, 'S', ms(0)), Verdict::Doubtful);
        assert_eq!(play.look(ms(25), 0, 'S', ms(0)), Verdict::Hung);
    }

    #[test]
    fn a_beat_after_the_processors_were_visited_takes_the_doubt_back() {
        let mut play = Play::new();
        for _ in 0..3 {
            while play.look(ms(25), 0, 'S', ms(0)) != Verdict::Doubtful {}
            assert_eq!(play.look(ms(25), 1, 'S', ms(0)), Verdict::Well);
        }
    }

    fn look() -> impl Strategy<Value = (u64, char, u64)> {
        (1_u64..100, prop::sample::select(vec!['R', 'S', 'D', 'T', 't']), 0_u64..100)
    }

    proptest! {
        /// The machine stands still for any time, again and again; between, the thread beats within two looks.
        #[test]
        fn a_pause_in_which_both_slept_never_counts(
            pauses in prop::collection::vec((0_u64..100_000_000, look()), 1..50),
        ) {
            let mut play = Play::new();
            for (pause, (after, state, used)) in pauses {
                prop_assert_ne!(play.look(ms(pause), 0, state, ms(0)), Verdict::Hung);
                prop_assert_ne!(play.look(ms(after), 0, state, ms(used)), Verdict::Hung);
                prop_assert_eq!(play.look(ms(25), 1, state, ms(used)), Verdict::Well);
            }
        }

        /// However it began, and however late the watchdog wakes.
        #[test]
        fn blocked_looks_find_a_hang_in_bounded_time(
            before in prop::collection::vec(look(), 0..20),
            delays in prop::collection::vec(25_u64..100_000, 8),
        ) {
            let mut play = Play::new();
            for (after, state, used) in before {
                play.look(ms(after), 1, state, ms(used));
            }
            let verdicts: Vec<_> = delays.iter().map(|delay| play.look(ms(*delay), 0, 'S', ms(0))).collect();
            prop_assert_eq!(verdicts.last(), Some(&Verdict::Hung));
            prop_assert!(verdicts[..3].iter().all(|verdict| *verdict == Verdict::Well), "{:?}", verdicts);
        }

        /// A thread that others keep from the processor is never taken for one that hangs.
        #[test]
        fn starvation_never_counts(delays in prop::collection::vec(1_u64..100_000, 1..200)) {
            let mut play = Play::new();
            for delay in delays {
                prop_assert_eq!(play.look(ms(delay), 0, 'R', ms(0)), Verdict::Starved);
            }
        }
    }
}
