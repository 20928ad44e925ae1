//! The prober's task: runs the roster's probes and held connections, and publishes what it knows.
//!
//! One task for all of them: nothing is spawned, so everything ends with it, and the loop itself awaits
//! nothing but the next event. What it decides is decided in `roster` and `pace`.
#![expect(clippy::disallowed_methods, reason = "driver: owns the clock and the sockets of the checks")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Aborted, abortable};
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::check::CheckId;
use super::pace::Pace;
use super::probe::{self, hold};
use super::roster::{Hold, JobId, Roster, Turned};
use super::verdict::Failure;
use super::{HealthError, HealthPlan, HealthView};
use crate::catalog::live::Suspect;
use crate::catalog::remote::Said;
use crate::catalog::view::Verdicts;
use crate::observe::journal::{CauseIds, Event, Journal};
use crate::observe::status::ServiceStatus;
use crate::sys::alarm::Alarm;

/// Probes started before the loop looks at what happened meanwhile.
const BURST: usize = 16;

/// Probes the backends of the plan.
pub struct Prober {
    plan: watch::Receiver<Arc<HealthPlan>>,
    view: watch::Sender<Arc<HealthView>>,
    status: watch::Sender<Arc<Vec<ServiceStatus>>>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    suspects: mpsc::Receiver<Suspect>,
    said: watch::Receiver<Arc<Said>>,
    journal: Journal,
    ids: CauseIds,
}

/// What became of a held connection.
enum HoldEvent {
    Opened(CheckId, TcpStream),
    Failed(CheckId, Failure),
    Ended(CheckId),
}

impl Prober {
    /// `plan`: what to check, the newest wins. `view`, `status` and `verdicts`: where to publish. `suspects`: whom to look at at once. `said`: what is
    /// said of backends at other POPs. `journal`: where
    /// changes of verdicts are noted, named by `ids`.
    #[must_use]
    pub fn new(
        plan: watch::Receiver<Arc<HealthPlan>>,
        view: watch::Sender<Arc<HealthView>>,
        status: watch::Sender<Arc<Vec<ServiceStatus>>>,
        verdicts: watch::Sender<Arc<Verdicts>>,
        suspects: mpsc::Receiver<Suspect>,
        said: watch::Receiver<Arc<Said>>,
        journal: Journal,
        ids: CauseIds,
    ) -> Self {
        Self { plan, view, status, verdicts, suspects, said, journal, ids }
    }

    /// Runs until `stop`. Dropping it closes everything it had open.
    ///
    /// # Errors
    /// [`HealthError::PlanGone`] when the plan's sender was dropped, [`HealthError::Timer`] if the kernel
    /// gives no timer.
    pub async fn run(self, stop: CancellationToken) -> Result<(), HealthError> {
        let Self { mut plan, view, status, verdicts, mut suspects, mut said, journal, ids } = self;
        let mut now = Instant::now();
        let mut roster = Roster::new(RandomState::new().hash_one(0), ids);
        let mut probes = FuturesUnordered::new();
        let mut opening = FuturesUnordered::new();
        let mut watching = FuturesUnordered::new();
        let mut handles: BTreeMap<CheckId, AbortHandle> = BTreeMap::new();
        let mut asked: BTreeMap<JobId, AbortHandle> = BTreeMap::new();
        let mut alarm = Alarm::new().map_err(|error| no_timer(&error))?;

        let first = Arc::clone(&plan.borrow_and_update());
        roster.apply_plan(&first, now);
        let mut pace = Pace::new(first.limits.max_age, roster.backends(), now);
        drop(first);

        loop {
            while let Some(check) = roster.poll_release() {
                if let Some(handle) = handles.remove(&check) {
                    handle.abort();
                }
            }
            for _ in 0..BURST {
                let Some(job) = roster.poll_probe(now) else { break };
                let id = job.id;
                let (future, handle) = abortable(probe::run(job));
                asked.insert(id, handle);
                probes.push(future);
            }
            for _ in 0..BURST {
                let Some(hold) = roster.poll_hold(now) else { break };
                let (future, handle) = abortable(open(hold.clone()));
                handles.insert(hold.check, handle);
                opening.push(future);
            }

            if pace.is_view_due(now) {
                roster.handle_sweep(now);
                roster.handle_said(&said.borrow(), now);
            }
            let changes = roster.take_changes();
            let publish = pace.poll_publish(changes, now);
            if publish.view {
                view.send_replace(Arc::new(roster.view(now)));
            }
            // Whatever a backend's verdict became; and their round trips now and then.
            if changes.status || publish.status {
                verdicts.send_replace(Arc::new(roster.verdicts()));
            }
            if publish.status {
                status.send_replace(Arc::new(roster.status(now)));
            }
            // After the view: nothing stands before a withdrawal.
            for turned in roster.take_turned() {
                journal.note(Some(turned.id), event(turned));
            }

            let wanted =
                roster.next_deadline().map_or(pace.next_deadline(), |at| at.min(pace.next_deadline()));
            let is_behind = wanted <= now;
            if !is_behind {
                alarm.set(wanted).map_err(|error| no_timer(&error))?;
            }
            // What ends a connection comes before what probes found, and that before the clock.
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = plan.changed() => {
                    now = Instant::now();
                    changed.map_err(|_| HealthError::PlanGone)?;
                    let new = Arc::clone(&plan.borrow_and_update());
                    roster.apply_plan(&new, now);
                    pace.handle_plan(new.limits.max_age, roster.backends());
                }
                Ok(()) = said.changed() => {
                    now = Instant::now();
                    let said = Arc::clone(&said.borrow_and_update());
                    roster.handle_said(&said, now);
                }
                Some(Suspect { service, backend }) = suspects.recv() => {
                    now = Instant::now();
                    roster.handle_suspect(&service, &backend, now);
                }
                Some(event) = watching.next(), if !watching.is_empty() => {
                    now = Instant::now();
                    if let Ok(HoldEvent::Ended(check)) = event {
                        handles.remove(&check);
                        roster.handle_held_ended(check, now);
                    }
                }
                Some(event) = opening.next(), if !opening.is_empty() => {
                    now = Instant::now();
                    match event {
                        Ok(HoldEvent::Opened(check, stream)) => {
                            let (future, handle) = abortable(watch_until_end(check, stream));
                            handles.insert(check, handle);
                            watching.push(future);
                            roster.handle_held_opened(check, now);
                        }
                        Ok(HoldEvent::Failed(check, failure)) => {
                            handles.remove(&check);
                            roster.handle_hold_failed(check, &failure, now);
                        }
                        Ok(HoldEvent::Ended(_)) | Err(Aborted) => {}
                    }
                }
                Some(event) = probes.next(), if !probes.is_empty() => {
                    now = Instant::now();
                    if let Ok((job, outcome)) = event {
                        asked.remove(&job);
                        roster.handle_outcome(job, &outcome, now);
                    }
                }
                // Only here, with no outcome waiting, may the clock decide. Yielding lets the runtime look
                // at the sockets first: after a stall, answers that came in time are still answers.
                rung = tick(&mut alarm, is_behind) => {
                    rung.map_err(|error| no_timer(&error))?;
                    now = Instant::now();
                    while let Some(job) = roster.poll_overdue(now) {
                        if let Some(handle) = asked.remove(&job) {
                            handle.abort();
                        }
                    }
                }
            }
        }
    }
}

fn event(turned: Turned) -> Event {
    Event::Verdict {
        service: turned.service.to_string(),
        backend: turned.backend,
        target: turned.target.to_string(),
        verdict: turned.verdict.word().to_owned(),
        error: turned.error,
    }
}

async fn tick(alarm: &mut Alarm, is_behind: bool) -> io::Result<()> {
    if is_behind {
        tokio::task::yield_now().await;
        return Ok(());
    }
    alarm.ring().await
}

fn no_timer(error: &io::Error) -> HealthError {
    HealthError::Timer(error.kind())
}

async fn open(hold: Hold) -> HoldEvent {
    match hold::open(hold.target, hold.settings.source, hold.settings.timeout).await {
        Ok(stream) => HoldEvent::Opened(hold.check, stream),
        Err(failure) => HoldEvent::Failed(hold.check, failure),
    }
}

async fn watch_until_end(check: CheckId, stream: TcpStream) -> HoldEvent {
    hold::watch(stream).await;
    HoldEvent::Ended(check)
}
