//! The pulse of each worker: one octet after another goes in at one end of its relay and must come out at the other.
//!
//! A worker that relays it within the lease serves, as far as its thread, its poller and its relay are concerned. What
//! lies before and behind them, a connection of our own proves now and then.
#![expect(clippy::disallowed_methods, reason = "driver: sends octets by the clock")]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::relay::{Over, Patience, Relay};
use super::stream::Stream;
use crate::supervise::lease::Board;

/// The worker's ends of its line.
#[derive(Debug)]
pub struct Wrist {
    board: Option<Arc<Board>>,
    enters: OwnedFd,
    leaves: OwnedFd,
}

/// Our ends of a worker's line.
#[derive(Debug)]
pub struct Line {
    into: std::os::unix::net::UnixStream,
    out_of: std::os::unix::net::UnixStream,
}

/// A line through a worker.
///
/// # Errors
/// The kernel's: no descriptors.
pub fn line() -> io::Result<(Line, Wrist)> {
    let pair = || {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        Ok::<_, io::Error>((ours, OwnedFd::from(theirs)))
    };
    let ((into, enters), (out_of, leaves)) = (pair()?, pair()?);
    Ok((Line { into, out_of }, Wrist { board: None, enters, leaves }))
}

impl Wrist {
    /// For a worker whose lease is on this board.
    #[must_use]
    pub fn on(self, board: &Arc<Board>) -> Self {
        Self { board: Some(Arc::clone(board)), ..self }
    }

    /// To be called on the worker's thread: where it tells of what it does.
    pub(super) fn enroll(&self, worker: usize) -> Option<Arc<Board>> {
        let board = self.board.clone()?;
        board.enroll(worker);
        Some(board)
    }

    /// Relays what is sent through, like any connection's octets, for as long as the thread lives.
    ///
    /// # Errors
    /// The kernel's: no room for another watch.
    pub(super) fn relay(self) -> io::Result<impl Future<Output = ()>> {
        let (enters, leaves) = (Stream::new(self.enters, false)?, Stream::new(self.leaves, false)?);
        Ok(async move {
            Relay::new(enters, leaves, Vec::new(), Endless).await;
        })
    }
}

struct Endless;

impl Patience for Endless {
    fn handle_progress(&mut self, _: bool, _: u64, _: u64) {}

    fn may_hold(&mut self, _: usize) -> bool {
        true
    }

    fn is_over(&mut self, _: &mut Context<'_>) -> Option<Over> {
        None
    }
}

/// Feels the pulse of every worker.
#[derive(Debug)]
pub struct Pulse {
    lines: Vec<Line>,
    plan: watch::Receiver<Arc<Plan>>,
    board: Arc<Board>,
}

impl Pulse {
    /// `lines`: one for each worker, in their order.
    #[must_use]
    pub fn new(lines: Vec<Line>, plan: watch::Receiver<Arc<Plan>>, board: Arc<Board>) -> Self {
        Self { lines, plan, board }
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// The kernel's: no room for another watch.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let Self { lines, plan, board } = self;
        let workers = lines.into_iter().enumerate().map(|(worker, line)| {
            let (plan, board) = (plan.clone(), Arc::clone(&board));
            async move { feel(worker, line, plan, &board).await }
        });
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = join_all(workers) => ended.into_iter().collect(),
        }
    }
}

async fn feel(
    worker: usize,
    line: Line,
    mut plan: watch::Receiver<Arc<Plan>>,
    board: &Board,
) -> io::Result<()> {
    let into = UnixStream::from_std(line.into)?;
    let out_of = UnixStream::from_std(line.out_of)?;
    loop {
        let (time, is_idle) = {
            let plan = plan.borrow_and_update();
            (plan.limits.lease.time, plan.doors.is_empty())
        };
        board.configure(time);
        let every = board.renew_every();
        // Nobody needs a lease where nobody comes in.
        if is_idle {
            board.rest(worker);
            match plan.changed().await {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            }
        }
        let mut tick = interval(every.max(Duration::from_millis(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deeds = board.deeds(worker);
        loop {
            tokio::select! {
                changed = plan.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return Ok(()),
                },
                ready = out_of.readable() => {
                    ready?;
                    match out_of.try_read(&mut [0; 64]) {
                        // The worker has gone: nothing renews its lease any more.
                        Ok(0) => return Ok(()),
                        Ok(_) => board.renew(worker, Instant::now()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                _ = tick.tick() => {
                    // Whoever is busy with clients serves, though a pulse may wait behind a thousand of them.
                    let done = board.deeds(worker);
                    if std::mem::replace(&mut deeds, done) != done {
                        board.renew(worker, Instant::now());
                    }
                    // A line that is full says enough: the worker takes nothing out.
                    drop(into.try_write(&[0]));
                }
            }
        }
    }
}
