//! The proof that a thread's runtime still polls, and what the kernel says of the thread.
#![expect(clippy::disallowed_methods, reason = "driver: beats by the clock and reads what the kernel says")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;
use tokio::time::{MissedTickBehavior, interval};

/// A thread's heart, which belongs on that thread. The watchdog heeds it from the first beat until it is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    pulse: Arc<Pulse>,
    every: Duration,
}

impl Heartbeat {
    pub(super) fn new(pulse: Arc<Pulse>, every: Duration) -> Self {
        Self { pulse, every }
    }

    /// Beats while `work` goes on, which is the whole of a thread. Not in a task of its own: that would stand in the
    /// queue behind all others, and a crowd of tasks that each do a little is no hang.
    pub async fn over<T>(self, work: impl Future<Output = T>) -> T {
        let mut every = interval(self.every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                _ = every.tick() => self.beat(),
                done = &mut work => return done,
            }
        }
    }

    /// One beat, for a loop that comes round often enough by itself.
    pub fn beat(&self) {
        self.pulse.vitals.get_or_init(|| {
            let vitals = Vitals::of_this_thread();
            let warn =
                |error| tracing::warn!("/proc tells nothing of this thread; its hang is not seen: {error}");
            vitals.map_err(warn).ok()
        });
        self.pulse.beats.fetch_add(1, Ordering::Release);
    }
}

/// What a heart and the watchdog share.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    pub(super) beats: AtomicU64,
    /// Since the first beat; None where the kernel tells nothing.
    pub(super) vitals: OnceLock<Option<Vitals>>,
    /// The watchdog finds that it hangs.
    pub(super) is_hung: AtomicBool,
}

/// What the kernel says of one thread, readable from any other without a lock or an allocation.
#[derive(Debug)]
pub(super) struct Vitals {
    stat: File,
    clock: ClockId,
}

impl Vitals {
    fn of_this_thread() -> io::Result<Self> {
        // The link is followed now: the open file stays this thread's, whoever reads it.
        let stat = File::open("/proc/thread-self/stat")?;
        // The id of a thread's processor clock, as the kernel and its libraries compose it: the complement of
        // the thread's id, "of one thread", "as the scheduler counts" (clock_getres(2)).
        let vitals = Self { stat, clock: ClockId::from_raw((!gettid().as_raw() << 3) | 0b110) };
        vitals.read()?;
        Ok(vitals)
    }

    /// Its state as in proc_pid_stat(5), and the processor time that it has used.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(super) fn read(&self) -> io::Result<(char, Duration)> {
        let mut line = [0; 128];
        let length = self.stat.read_at(&mut line, 0)?;
        let state = state(&line[..length]).ok_or(io::ErrorKind::InvalidData)?;
        Ok((state, clock_gettime(self.clock)?.into()))
    }
}

/// `TID (NAME) STATE …`; a name may hold anything, also parentheses, but is 15 octets at most.
fn state(line: &[u8]) -> Option<char> {
    let end_of_name = line.iter().rposition(|&octet| octet == b')')?;
    line.get(end_of_name + 2).map(|&octet| char::from(octet))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use super::*;

    #[test]
    fn the_state_stands_behind_the_name() {
        for (line, expected) in [
            ("42 (routing) S 1 42 42 0 -1", Some('S')),
            ("42 (a) R (b) t 1", Some('t')),
            ("42 (routing)", None),
            ("", None),
        ] {
            assert_eq!(state(line.as_bytes()), expected, "{line}");
        }
    }

    /// What another thread reads of one that does `work` until the end of what it is given.
    fn watched(work: impl FnOnce(&std::sync::mpsc::Receiver<()>) + Send + 'static) -> [(char, Duration); 2] {
        let (stop, until) = sync_channel::<()>(0);
        let (tell, vitals) = sync_channel(1);
        let thread = thread::spawn(move || {
            tell.send(Vitals::of_this_thread().unwrap()).unwrap();
            work(&until);
        });
        let vitals = vitals.recv().unwrap();
        let looks = [300, 300].map(|ms| {
            thread::sleep(Duration::from_millis(ms));
            vitals.read().unwrap()
        });
        drop(stop);
        thread.join().unwrap();
        // The kernel wakes who joins a thread before it has put the last of that thread away.
        let is_gone = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(10));
            vitals.read().is_err()
        });
        assert!(is_gone, "an ended thread has no state");
        looks
    }

    #[test]
    fn a_waiting_thread_sleeps_and_uses_nothing() {
        let [(before, used_before), (after, used)] = watched(|until| assert!(until.recv().is_err()));
        assert_eq!((before, after), ('S', 'S'));
        assert_eq!(used, used_before);
    }

    #[test]
    fn a_looping_thread_runs_and_uses_the_processor() {
        let [(before, used_before), (after, used)] =
            watched(|until| while until.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {});
        assert_eq!((before, after), ('R', 'R'));
        assert!(used > used_before, "{used:?}");
    }
}
