//! The watchdog's own thread: looks at every heart, feeds systemd, and ends a process that hangs.
#![expect(clippy::disallowed_methods, reason = "driver: wakes by the clock, and may abort the process")]

use std::convert::Infallible;
use std::io::{self, Cursor, Write};
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::unistd::{self, Pid, alarm};
use tracing::{info, warn};

use super::feed::Feed;
use super::heartbeat::Pulse;
use super::judge::{Judge, Sight, Verdict};
use super::{Answer, Watched};
use crate::supervise::notify::Notify;

/// How often the watchdog wakes.
const TICK: Duration = Duration::from_millis(25);

/// Goes round until the other end of `stop` is dropped.
///
/// INVARIANT: unless there is something to tell, a round allocates nothing and takes no lock, because a thread that
/// hangs may hold any of them.
pub(super) fn run(watched: Vec<Watched>, mut feed: Option<(Feed, Notify)>, stop: &Receiver<Infallible>) {
    let start = Instant::now();
    let mut watches: Vec<Watch> = watched.into_iter().map(|watched| Watch::new(watched, start)).collect();
    while stop.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let now = Instant::now();
        let mut all_well = true;
        for watch in &mut watches {
            all_well &= watch.look(now);
        }
        if let Some((feed, systemd)) = &mut feed
            && feed.is_due(all_well, now)
        {
            systemd.watchdog();
        }
    }
}

struct Watch {
    name: &'static str,
    answer: Answer,
    pulse: Weak<Pulse>,
    judge: Judge,
    /// When the next look is due.
    due: Instant,
}

impl Watch {
    fn new(Watched { name, answer, patience, pulse }: Watched, now: Instant) -> Self {
        Self { name, answer, pulse, judge: Judge::new(patience), due: now }
    }

    /// Looks if it is time to, and says whether all is well: it beats, or has ended as it should.
    fn look(&mut self, now: Instant) -> bool {
        let Some(pulse) = self.pulse.upgrade() else { return true };
        let beats = pulse.beats.load(Ordering::Acquire);
        if beats == 0 {
            return false;
        }
        let was_hung = pulse.is_hung.load(Ordering::Relaxed);
        if now < self.due {
            return !was_hung;
        }
        // From now and not from when it was due: looks must lie apart to be evidence.
        self.due = now + self.judge.period().saturating_sub(TICK / 2);
        let Some(Ok((state, used))) = pulse.vitals.get().and_then(Option::as_ref).map(|vitals| vitals.read())
        else {
            return !was_hung;
        };
        let verdict = self.judge.handle_sight(Sight { at: now, beats, state, used });
        if verdict == Verdict::Doubtful {
            visit_processors();
        }
        let is_hung = verdict == Verdict::Hung;
        if is_hung && self.answer == Answer::Abort {
            abort(self.name, self.judge.silence(), state);
        }
        if is_hung != was_hung {
            pulse.is_hung.store(is_hung, Ordering::Relaxed);
            let thread = self.name;
            if is_hung {
                let silence = self.judge.silence();
                warn!(thread, %state, ?silence, "a thread hangs; systemd hears nothing until it is back");
            } else {
                info!(thread, "a thread that hung is back");
            }
        }
        !is_hung
    }
}

/// Runs on every processor that this process may use, one after the other, and comes back when all have worked:
/// then whatever timer was due on them has rung, and whoever slept by it can beat before the next look.
fn visit_processors() {
    let itself = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(itself) else { return };
    for processor in (0..CpuSet::count()).filter(|processor| allowed.is_set(*processor).unwrap_or(false)) {
        let mut only = CpuSet::new();
        if only.set(processor).is_ok() {
            let _ = sched_setaffinity(itself, &only);
        }
    }
    let _ = sched_setaffinity(itself, &allowed);
}

/// Ends the process at once: the kernel closes its sockets, and the neighbors drop its routes now and not when
/// their hold timers end.
fn abort(thread: &str, silence: Duration, state: char) -> ! {
    // While a core is dumped, which takes seconds when it goes through a pipe (core(5)), all threads wait with
    // their sockets open: the routes would outlive the process.
    let _ = prctl::set_dumpable(false);
    // The line may block: whoever reads standard error may have hung first. Then SIGALRM ends the process.
    alarm::set(1);
    let mut line = Cursor::new([0; 256]);
    let _ = writeln!(
        line,
        "edgeproxy: the thread {thread} hangs: {} ms without a sign of life (state {state}); the process aborts, so \
         that its routes go at once",
        silence.as_millis()
    );
    let length = line.position() as usize;
    // Past the logger and past the lock of standard error: somebody who hangs may hold them.
    let _ = unistd::write(io::stderr(), &line.get_ref()[..length]);
    std::process::abort()
}
