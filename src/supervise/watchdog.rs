//! Ends a process whose threads hang, because a hung process keeps its routes and a dead one loses them.
//!
//! Neighbors see the end of a process in milliseconds, by the end of its TCP connections. Of one that hangs they
//! learn when their hold timers end, after 90 s or so. So each thread that matters has a heart that its runtime
//! must beat, and a plain thread looks at them ([`rounds`]) and judges ([`judge`]). The same thread tells systemd
//! that the process is alive ([`feed`]).

mod feed;
mod heartbeat;
mod judge;
mod rounds;

use std::convert::Infallible;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use self::feed::Feed;
pub use self::heartbeat::Heartbeat;
use self::heartbeat::Pulse;
use self::judge::Judge;
use super::notify::Notify;

/// What is done about a thread that hangs. Either way systemd hears nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The process aborts.
    Abort,
    /// It is told, in the log and by [`Watching::hung`].
    Tell,
}

/// A watchdog that does not watch yet.
#[derive(Debug, Default)]
pub struct Watchdog {
    watched: Vec<Watched>,
    feed: Option<(Feed, Notify)>,
}

#[derive(Debug)]
struct Watched {
    name: &'static str,
    answer: Answer,
    patience: Duration,
    pulse: Weak<Pulse>,
}

/// A watchdog at work, until this is dropped.
#[derive(Debug)]
pub struct Watching {
    hearts: Vec<(&'static str, Weak<Pulse>)>,
    _stop: SyncSender<Infallible>,
}

impl Watchdog {
    /// Feeds systemd, which waits for so long (`WATCHDOG_USEC`), while all threads beat.
    pub fn feed(&mut self, systemd: Notify, patience: Duration) {
        self.feed = Some((Feed::new(patience), systemd));
    }

    /// The heart of a thread that hangs when it does not beat for `patience`, give or take a sixth.
    pub fn heart(&mut self, name: &'static str, patience: Duration, answer: Answer) -> Heartbeat {
        let pulse = Arc::new(Pulse::default());
        self.watched.push(Watched { name, answer, patience, pulse: Arc::downgrade(&pulse) });
        Heartbeat::new(pulse, Judge::new(patience).period())
    }

    /// Starts the thread; `first` is the first that it does.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start(self, first: impl FnOnce() + Send + 'static) -> io::Result<Watching> {
        let hearts = self.watched.iter().map(|watched| (watched.name, watched.pulse.clone())).collect();
        let (stop, until) = sync_channel(0);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            first();
            rounds::run(self.watched, self.feed, &until);
        })?;
        Ok(Watching { hearts, _stop: stop })
    }
}

impl Watching {
    /// The threads that hang and are only told of.
    #[must_use]
    pub fn hung(&self) -> Vec<String> {
        let is_hung =
            |pulse: &Weak<Pulse>| pulse.upgrade().is_some_and(|it| it.is_hung.load(Ordering::Relaxed));
        self.hearts.iter().filter(|(_, pulse)| is_hung(pulse)).map(|(name, _)| (*name).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc::Receiver;
    use std::time::Instant;

    use super::*;
    use crate::supervise::task::Task;
    use crate::supervise::thread::Thread;

    const PATIENCE: Duration = Duration::from_millis(150);

    type Order = Box<dyn FnOnce() + Send>;

    /// A thread whose heart beats, and a way to make it do something.
    fn beating(watchdog: &mut Watchdog) -> (Thread<()>, tokio::sync::mpsc::Sender<Order>) {
        let heart = watchdog.heart("subject", PATIENCE, Answer::Tell);
        let (order, mut orders) = tokio::sync::mpsc::channel::<Order>(1);
        let thread = Thread::spawn("subject", move || async move {
            let work = async {
                while let Some(order) = orders.recv().await {
                    order();
                }
            };
            heart.over(work).await;
        });
        let pulse = watchdog.watched.last().and_then(|watched| watched.pulse.upgrade()).unwrap();
        becomes("it beats", || pulse.beats.load(Ordering::Relaxed) > 0);
        (thread.unwrap(), order)
    }

    fn becomes(what: &str, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn until_released(busy: bool) -> (SyncSender<()>, Order) {
        let (release, released): (_, Receiver<()>) = sync_channel(0);
        let wait = move || {
            if busy {
                while released.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {}
            } else {
                // It sleeps, in state S like one that waits for its runtime's timer; but that is due.
                let _ = released.recv();
            }
        };
        (release, Box::new(wait))
    }

    #[test]
    fn a_thread_that_sleeps_or_loops_is_told_until_it_is_back() {
        let mut watchdog = Watchdog::default();
        let (_thread, order) = beating(&mut watchdog);
        let watching = watchdog.start(|| ()).unwrap();
        for busy in [false, true] {
            let (release, wait) = until_released(busy);
            order.blocking_send(wait).unwrap();
            becomes("it is told", || watching.hung() == ["subject"]);
            drop(release);
            becomes("it is back", || watching.hung().is_empty());
        }
    }

    #[test]
    fn a_crowd_that_each_does_a_little_is_no_hang() {
        let mut watchdog = Watchdog::default();
        let heart = watchdog.heart("crowd", PATIENCE, Answer::Tell);
        let thread = Thread::spawn("crowd", move || async move {
            let little = || async {
                loop {
                    let end = Instant::now() + Duration::from_millis(3);
                    while Instant::now() < end {}
                    tokio::task::yield_now().await;
                }
            };
            let crowd: Vec<Task<()>> = (0..200).map(|_| Task::spawn("little", little())).collect();
            heart.over(std::future::pending::<()>()).await;
            drop(crowd);
        });
        let watching = watchdog.start(|| ()).unwrap();
        let end = Instant::now() + 10 * PATIENCE;
        while Instant::now() < end {
            assert_eq!(watching.hung(), [""; 0]);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(thread);
    }

    #[test]
    fn a_heart_counts_from_its_first_beat_to_its_end() {
        let mut watchdog = Watchdog::default();
        let unborn = watchdog.heart("unborn", Duration::ZERO, Answer::Abort);
        let ended = watchdog.heart("ended", Duration::ZERO, Answer::Abort);
        ended.beat();
        drop(ended);
        let _watching = watchdog.start(|| ()).unwrap();
        std::thread::sleep(4 * PATIENCE);
        drop(unborn);
    }

    #[test]
    fn systemd_is_told_while_all_hearts_beat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let told = || match systemd.recv(&mut [0; 64]) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        };

        let mut watchdog = Watchdog::default();
        watchdog.feed(Notify::new(Some(path.into())), Duration::from_millis(100));
        let late = watchdog.heart("late", Duration::from_secs(1_000), Answer::Tell);
        let (thread, order) = beating(&mut watchdog);
        let watching = watchdog.start(|| ()).unwrap();
        std::thread::sleep(2 * PATIENCE);
        assert!(!told(), "a heart has not begun to beat");
        late.beat();
        becomes("systemd is told", told);

        let (release, wait) = until_released(false);
        order.blocking_send(wait).unwrap();
        becomes("it hangs", || !watching.hung().is_empty());
        while told() {}
        std::thread::sleep(2 * PATIENCE);
        assert!(!told(), "a thread hangs");
        drop(release);
        becomes("systemd is told again", told);

        // One that has ended is no reason for silence.
        drop(thread);
        drop(order);
        std::thread::sleep(PATIENCE);
        while told() {}
        becomes("systemd is told of the others", told);
    }
}
