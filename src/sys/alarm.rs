//! A timer of the kernel's own precision.
//!
//! The runtime's timers round up to whole milliseconds, and so does its wait for events: up to two
//! milliseconds late, each time. With probes every 10 ms that is a fifth of the time a verdict takes.
#![expect(clippy::disallowed_methods, reason = "driver: arms the kernel's timer relative to now")]
#![expect(unsafe_code, reason = "a timerfd is registered with the runtime by number")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// Rings once at a given moment; can be set again and again.
pub struct Alarm {
    timer: AsyncFd<Timer>,
    at: Option<Instant>,
}

impl Alarm {
    /// Not set. Belongs to the current runtime, which must have I/O enabled.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: `Timer` owns an open descriptor, gives the same one each time, and lives as long as the
        // registration, which owns it.
        let timer = unsafe { AsyncFd::register(timer) }?;
        Ok(Self { timer, at: None })
    }

    /// Sets it, in place of what it was set to. A moment that has passed rings at once.
    ///
    /// # Errors
    /// The kernel's; none is known.
    pub fn set(&mut self, at: Instant) -> io::Result<()> {
        if self.at != Some(at) {
            // A length of zero would disarm it.
            let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
            self.timer.get_ref().0.set(expiration, TimerSetTimeFlags::empty())?;
            self.at = Some(at);
        }
        Ok(())
    }

    /// Waits for it. May ring early if it had been set to an earlier moment before. Can be dropped and
    /// called again.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn ring(&mut self) -> io::Result<()> {
        // Setting it anew resets the kernel's count, so there is nothing to read.
        self.timer.readable().await?.clear_ready();
        self.at = None;
        Ok(())
    }
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rings_after_the_moment_and_again_when_set_again() {
        let mut alarm = Alarm::new().expect("a timer");
        for micros in [0, 300, 2_500, 100] {
            let at = Instant::now() + Duration::from_micros(micros);
            alarm.set(at).expect("set");
            tokio::time::timeout(Duration::from_secs(5), alarm.ring()).await.expect("in time").expect("rung");
            assert!(Instant::now() >= at);
        }
    }

    #[tokio::test]
    async fn an_earlier_moment_takes_the_place_of_a_later() {
        let mut alarm = Alarm::new().expect("a timer");
        alarm.set(Instant::now() + Duration::from_secs(600)).expect("set");
        let waiting = tokio::time::timeout(Duration::from_millis(5), alarm.ring());
        assert!(waiting.await.is_err());
        alarm.set(Instant::now() + Duration::from_millis(1)).expect("set");
        tokio::time::timeout(Duration::from_secs(5), alarm.ring()).await.expect("in time").expect("rung");
    }
}
