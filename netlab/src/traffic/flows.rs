//! A client of many long TCP flows: each lasts its own time, asks now and then, and its end is recorded.

mod flow;
mod record;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustls::pki_types::ServerName;

pub use record::{Counts, End, FlowRecord};

use super::{Error, lock};
use crate::moment::Moment;
use crate::sys::descriptors;
use flow::{Flow, Happened};

/// As many as a service of the lab takes.
pub const MAX_FLOWS: usize = 16_000;
/// Opened before answers are looked for again.
const AT_ONCE: usize = 64;
/// A client with nothing to do still looks for its end.
const MAX_SLEEP: Duration = Duration::from_millis(20);

/// What a client does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A service that sends back what it reads.
    pub target: SocketAddr,
    pub count: usize,
    /// They are opened evenly over this time; zero opens all at once.
    pub over: Duration,
    /// How long each lasts from its handshake: at random between these.
    pub lasts: RangeInclusive<Duration>,
    /// From one request of a flow to the next.
    pub every: Duration,
    /// The same seed gives each flow the same length.
    pub seed: u64,
    /// Over TLS, to a server of this name, whose certificate may be anybody's.
    pub tls: Option<String>,
}

/// One thread for all flows. Dropping it stops it; flows that are open then are reset or closed by the system.
#[derive(Debug)]
pub struct FlowClient {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    record: Mutex<FlowRecord>,
    stop: AtomicBool,
}

impl FlowClient {
    /// Starts in the calling thread's network namespace.
    ///
    /// # Errors
    /// For more than [`MAX_FLOWS`], and when the system has not enough descriptors or threads.
    pub fn start(plan: Plan) -> Result<Self, Error> {
        if plan.count > MAX_FLOWS {
            return Err(Error::Flows { count: plan.count, max: MAX_FLOWS });
        }
        descriptors::allow(plan.count).map_err(Error::Descriptors)?;
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|error| Error::Descriptors(error.into()))?;
        let record = Mutex::new(FlowRecord::new(plan.count));
        let shared = Arc::new(Shared { record, stop: AtomicBool::new(false) });
        let begun = Moment::now();
        let (flows, timers) = (BTreeMap::new(), BTreeSet::new());
        let worker = Worker { shared: Arc::clone(&shared), plan, epoll, begun, dialled: 0, flows, timers };
        let run: Box<dyn FnOnce() + Send> = match worker.plan.tls.clone() {
            None => Box::new(move || worker.run()),
            Some(name) => {
                let name = ServerName::try_from(name).map_err(|error| Error::Name(error.to_string()))?;
                Box::new(move || tls::run(&worker.shared, &worker.plan, &name, worker.begun))
            }
        };
        let thread = thread::Builder::new().name("flows".to_owned()).spawn(run).map_err(Error::Thread)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Looks at the record so far. Keep it short: the flows wait meanwhile.
    pub fn look<T>(&self, with: impl FnOnce(&FlowRecord) -> T) -> T {
        with(&lock(&self.shared.record))
    }
}

impl Drop for FlowClient {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Plan {
    /// When this flow is to be opened, after the first one.
    fn opens_after(&self, index: usize) -> Duration {
        self.over.mul_f64(index as f64 / self.count.max(1) as f64)
    }

    /// How long this flow is to last.
    fn length(&self, index: usize) -> Duration {
        let (least, most) = (*self.lasts.start(), *self.lasts.end());
        let part = (scatter(self.seed.wrapping_add(index as u64)) >> 11) as f64 / (1u64 << 53) as f64;
        least + most.saturating_sub(least).mul_f64(part)
    }
}

struct Worker {
    shared: Arc<Shared>,
    plan: Plan,
    epoll: Epoll,
    begun: Moment,
    /// Flows are dialled in their order.
    dialled: usize,
    /// Those that have not ended, by their number.
    flows: BTreeMap<usize, Flow>,
    /// The deadline of each.
    timers: BTreeSet<(Moment, usize)>,
}

impl Worker {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 256];
        while !self.shared.stop.load(Ordering::Acquire)
            && (self.dialled < self.plan.count || !self.flows.is_empty())
        {
            self.dial_due();
            // An interrupted wait is a short one.
            let count = self.epoll.wait(&mut events, self.patience()).unwrap_or(0);
            for event in &events[..count] {
                self.touch(event.data() as usize, Flow::handle_ready);
            }
            let now = Moment::now();
            while let Some(&(at, index)) = self.timers.first().filter(|(at, _)| *at <= now) {
                self.timers.remove(&(at, index));
                self.touch(index, Flow::handle_deadline);
            }
        }
    }

    fn dial_due(&mut self) {
        for _ in 0..AT_ONCE {
            let (index, now) = (self.dialled, Moment::now());
            if index >= self.plan.count || self.opens_at(index) > now {
                return;
            }
            self.dialled += 1;
            let flow = Flow::dial(&self.plan, index, now).and_then(|flow| {
                // Told of each change once: what is there is read whole each time.
                let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                let watched = self.epoll.add(flow.as_fd(), EpollEvent::new(wanted, index as u64));
                watched.map(|()| flow).map_err(|_| End::Broken("it could not be watched"))
            });
            match flow {
                Ok(flow) => {
                    self.timers.insert((flow.deadline(), index));
                    self.flows.insert(index, flow);
                }
                Err(end) => lock(&self.shared.record).handle_end(index, now, end),
            }
        }
    }

    fn opens_at(&self, index: usize) -> Moment {
        self.begun + self.plan.opens_after(index)
    }

    /// Until the next deadline or opening, rounded up: epoll counts in milliseconds.
    fn patience(&self) -> EpollTimeout {
        let deadline = self.timers.first().map(|(at, _)| *at);
        let opening = (self.dialled < self.plan.count).then(|| self.opens_at(self.dialled));
        let next = deadline.into_iter().chain(opening).min().unwrap_or(Moment::MAX);
        let left = next.since(Moment::now()).min(MAX_SLEEP).as_micros().div_ceil(1000);
        EpollTimeout::from(left as u8)
    }

    fn touch(&mut self, index: usize, with: impl FnOnce(&mut Flow, Moment) -> Happened) {
        let Some(flow) = self.flows.get_mut(&index) else { return };
        let now = Moment::now();
        let before = flow.deadline();
        let asked = flow.asked();
        let happened = with(flow, now);
        if asked == 0 && flow.asked() > 0 {
            lock(&self.shared.record).handle_answered(index, self.begun + self.plan.opens_after(index), now);
        }
        self.timers.remove(&(before, index));
        self.timers.insert((flow.deadline(), index));
        match happened {
            Happened::Nothing => {}
            Happened::Opened => {
                lock(&self.shared.record).handle_opened(index, now);
                // What has come meanwhile is not told again.
                self.touch(index, Flow::handle_ready);
            }
            Happened::Ended(end) => {
                lock(&self.shared.record).handle_end(index, now, end);
                self.timers.remove(&(flow.deadline(), index));
                self.flows.remove(&index);
            }
        }
    }
}

/// A number that looks random, from one that does not (the output function of SplitMix64, by Steele and others).
fn scatter(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_openings_are_spread_and_repeatable() {
        let lasts = Duration::from_secs(1)..=Duration::from_secs(15);
        let plan = Plan {
            target: "192.0.2.1:80".parse().unwrap(),
            count: 1000,
            over: Duration::from_secs(2),
            lasts: lasts.clone(),
            every: Duration::from_millis(250),
            seed: 7,
            tls: None,
        };
        let lengths: Vec<_> = (0..1000).map(|index| plan.length(index)).collect();
        assert!(lengths.iter().all(|length| lasts.contains(length)));
        let mean = lengths.iter().sum::<Duration>() / 1000;
        assert!(mean.abs_diff(Duration::from_secs(8)) < Duration::from_millis(500), "{mean:?}");
        assert_eq!(lengths, (0..1000).map(|index| plan.length(index)).collect::<Vec<_>>());
        assert_ne!(plan.length(0), Plan { seed: 8, ..plan.clone() }.length(0));
        assert_eq!(plan.opens_after(0), Duration::ZERO);
        assert_eq!(plan.opens_after(500), Duration::from_secs(1));
        let fixed = Plan { lasts: plan.over..=plan.over, over: Duration::ZERO, ..plan };
        assert_eq!((fixed.length(3), fixed.opens_after(999)), (Duration::from_secs(2), Duration::ZERO));
    }
}
