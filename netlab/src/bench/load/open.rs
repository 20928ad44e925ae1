//! An open loop: requests leave on a schedule, answered or not, and are timed from when they should have left.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Broken, Load, PATIENCE};
use crate::bench::frame::{Ask, FRAME};
use crate::bench::link::{Link, Target};

const TIMER: u64 = u64::MAX;
/// Latencies that are kept; more than a window of the bench can have.
const MOST_SAMPLES: usize = 4_000_000;
/// Requests under way on one connection; a proxy that far behind has lost the race, and the load its memory.
const MOST_UNANSWERED: usize = 50_000;

/// A Poisson stream of requests, spread over connections that stay.
pub struct OpenLoop {
    epoll: Epoll,
    timer: TimerFd,
    links: Vec<Option<Conversation>>,
    gap: Duration,
    next: Instant,
    dice: u64,
    sent: u64,
    done: u64,
    latencies: Vec<f64>,
    broken: Broken,
}

struct Conversation {
    link: Link,
    /// When each request under way should have left.
    due: VecDeque<Instant>,
    /// What of the next answer has come.
    partial: usize,
}

impl OpenLoop {
    /// `rate` requests a second over so many connections.
    ///
    /// # Errors
    /// When a connection cannot be made, or its first exchange fails.
    pub fn new(target: &Target, connections: usize, rate: f64) -> io::Result<Self> {
        let epoll = super::epoll()?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        epoll.add(timer.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut links = Vec::new();
        for token in 0..connections {
            let mut link = Link::dial(target)?;
            link.exchange(&Ask::Keep.frame(0), PATIENCE)?;
            epoll.add(&link, EpollEvent::new(EpollFlags::EPOLLIN, token as u64))?;
            links.push(Some(Conversation { link, due: VecDeque::new(), partial: 0 }));
        }
        Ok(Self {
            epoll,
            timer,
            links,
            gap: Duration::from_secs_f64(1.0 / rate.max(1.0)),
            next: Instant::now(),
            dice: 0x2545_F491_4F6C_DD1D,
            sent: 0,
            done: 0,
            latencies: Vec::new(),
            broken: Broken::default(),
        })
    }

    /// Forgets the latencies so far.
    pub fn forget(&mut self) {
        self.latencies.clear();
    }

    /// Latencies in microseconds. Requests that wait still are in it with what they have waited: leaving them
    /// out would flatter whoever stalls.
    #[must_use]
    pub fn latencies(&self) -> Vec<f64> {
        let now = Instant::now();
        let waiting = self.links.iter().flatten().flat_map(|one| one.due.iter());
        self.latencies.iter().copied().chain(waiting.map(|due| micros(*due, now))).collect()
    }

    /// Sends all that is due.
    fn send_due(&mut self, now: Instant) {
        while self.next <= now {
            let due = self.next;
            self.next += self.gap.mul_f64(exponential(&mut self.dice));
            let token = (self.sent % self.links.len().max(1) as u64) as usize;
            self.sent += 1;
            let Some(one) = &mut self.links[token] else { continue };
            let full = one.due.len() >= MOST_UNANSWERED;
            match one.link.send(&Ask::Keep.frame(self.sent)) {
                Ok(FRAME) if !full => one.due.push_back(due),
                Ok(_) => self.fail(token, "requests that nobody takes pile up"),
                Err(error) => self.fail(token, &error.to_string()),
            }
        }
    }

    fn set_timer(&self) -> io::Result<()> {
        // Zero would disarm it.
        let left = self.next.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let at = Expiration::OneShot(TimeSpec::from_duration(left));
        Ok(self.timer.set(at, TimerSetTimeFlags::empty())?)
    }

    fn answered(&mut self, token: usize, buffer: &mut [u8]) {
        let Some(one) = &mut self.links[token] else { return };
        let count = match one.link.receive(buffer) {
            Ok(None) => return,
            Ok(Some(count)) if count > 0 => count,
            Ok(_) => return self.fail(token, "the connection ended"),
            Err(error) => return self.fail(token, &error.to_string()),
        };
        let now = Instant::now();
        one.partial += count;
        while one.partial >= FRAME {
            one.partial -= FRAME;
            let Some(due) = one.due.pop_front() else {
                return self.fail(token, "an answer to no request");
            };
            self.done += 1;
            if self.latencies.len() < MOST_SAMPLES {
                self.latencies.push(micros(due, now));
            }
        }
    }

    fn fail(&mut self, token: usize, why: &str) {
        self.links[token] = None;
        self.broken.add(|| why.to_owned());
    }
}

impl Load for OpenLoop {
    fn run(&mut self, until: Instant) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        let mut buffer = vec![0; 64 << 10];
        // What was due while nobody ran the loop is not late: the schedule starts anew.
        self.next = self.next.max(Instant::now());
        self.set_timer()?;
        while let Some(count) = super::wait(&self.epoll, &mut events, until)? {
            for event in &events[..count] {
                match event.data() {
                    TIMER => {
                        // Read it, or it stays ready.
                        let _ = self.timer.wait();
                        self.send_due(Instant::now());
                        self.set_timer()?;
                    }
                    token => self.answered(token as usize, &mut buffer),
                }
            }
        }
        Ok(())
    }

    fn work(&self) -> f64 {
        self.done as f64
    }

    fn broken(&self) -> &Broken {
        &self.broken
    }
}

fn micros(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e6
}

/// Gaps between arrivals that know nothing of each other, in units of their mean.
fn exponential(dice: &mut u64) -> f64 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    let uniform = ((*dice >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_the_mean_that_was_asked_for() {
        let mut dice = 7;
        let gaps: Vec<f64> = (0..100_000).map(|_| exponential(&mut dice)).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((0.98..1.02).contains(&mean), "{mean}");
        // Poisson: a share of 1/e of the gaps is longer than the mean.
        let longer = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
        assert!((0.36..0.376).contains(&longer), "{longer}");
        assert!(gaps.iter().all(|gap| gap.is_finite() && *gap >= 0.0));
    }
}
