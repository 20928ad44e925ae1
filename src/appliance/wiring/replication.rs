//! The threads of replication: "replication" talks with other POPs, "store" keeps what they say. They begin and end
//! together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::catalog::fleet::{Fleet, Pop};
use crate::catalog::stance::{Heard, Stances};
use crate::catalog::tunnels::Tunnels;
use crate::catalog::view::{Sources, Verdicts};
use crate::config::replication::Replication;
use crate::observe::status::PrefixStatus;
use crate::observe::status::fleet::FleetStatus;
use crate::replication::ReplicationError;
use crate::replication::replicator::{self, PermitRequest, Replicator, Write};
use crate::replication::store;
use crate::replication::voters::Held;
use crate::supervise::thread::Thread;

/// Writes to the disk that wait; own ones wait for those before them.
const WORK: usize = 64;
/// Changes of rows that wait; more are told that replication is busy.
const WRITES: usize = 256;
/// Drains that wait; they are asked for one after the other.
const PERMITS: usize = 4;
/// How long the threads may take to end.
const END: Duration = Duration::from_secs(2);

/// What replication needs of the others, and gives them. Outlives every start of it.
#[derive(Clone)]
pub(super) struct Ends {
    pub(super) state: PathBuf,
    pub(super) config: watch::Receiver<Arc<Replication>>,
    pub(super) pop: watch::Receiver<Arc<Pop>>,
    pub(super) sources: watch::Receiver<Arc<Sources>>,
    pub(super) verdicts: watch::Receiver<Arc<Verdicts>>,
    pub(super) prefixes: watch::Receiver<Arc<Vec<PrefixStatus>>>,
    pub(super) stances: watch::Receiver<Arc<Stances>>,
    pub(super) tunnels: watch::Receiver<Arc<Tunnels>>,
    pub(super) heard: Arc<watch::Sender<Arc<Heard>>>,
    pub(super) held: watch::Receiver<Arc<Held>>,
    /// Where replication is asked for something, while it runs.
    pub(super) desk: Arc<watch::Sender<Option<Desk>>>,
    pub(super) fleet: Arc<watch::Sender<Arc<Fleet>>>,
    pub(super) status: Arc<watch::Sender<Arc<FleetStatus>>>,
}

/// Where replication is asked for something.
#[derive(Clone)]
pub(in crate::appliance) struct Desk {
    /// Rows of ours are changed.
    pub(in crate::appliance) writer: mpsc::Sender<Write>,
    /// Permits to drain.
    pub(in crate::appliance) permits: mpsc::Sender<PermitRequest>,
}

/// Runs both threads until they are told to stop, or one of them ends.
pub(super) async fn run(ends: Ends, stop: CancellationToken) -> Result<(), ReplicationError> {
    let ended = live(ends.clone(), stop).await;
    ends.desk.send_replace(None);
    if let Err(error) = &ended {
        let (fleet, error) = (ends.config.borrow().fleet.clone(), Some(error.to_string()));
        ends.status.send_replace(Arc::new(FleetStatus { fleet, error, ..FleetStatus::default() }));
    }
    ended
}

async fn live(ends: Ends, stop: CancellationToken) -> Result<(), ReplicationError> {
    // A large database takes seconds, and this loop serves operators.
    let folder = ends.state.join("replication");
    let (store, loaded) = Thread::spawn("store", move || async move { store::open(&folder) })?.await??;
    let (work, to_do) = mpsc::channel(WORK);
    let (writer, writes) = mpsc::channel(WRITES);
    let (permits, wanted) = mpsc::channel(PERMITS);
    let inputs = replicator::Ends {
        config: ends.config,
        pop: ends.pop,
        sources: ends.sources,
        verdicts: ends.verdicts,
        prefixes: ends.prefixes,
        stances: ends.stances,
        tunnels: ends.tunnels,
        heard: ends.heard,
        writes,
        permits: wanted,
        held: ends.held,
        work,
        missed: store.missed(),
        fleet: ends.fleet,
        status: ends.status,
    };
    // A token of this start: whichever thread ends first ends the other. The disk ends last, with all that was told.
    let (both, disk) = (stop.child_token(), CancellationToken::new());
    let (end, end_of_disk) = (both.clone(), disk.clone());
    let mut keeper = Thread::spawn("store", move || store.run(to_do, end_of_disk))?;
    let mut talker =
        Thread::spawn(
            "replication",
            move || async move { Replicator::open(inputs, loaded)?.run(end).await },
        )?;
    ends.desk.send_replace(Some(Desk { writer, permits }));
    let first = tokio::select! {
        ended = &mut talker => ended?,
        ended = &mut keeper => ended?.map_err(ReplicationError::from),
    };
    both.cancel();
    let talked = talker.join(END).await;
    disk.cancel();
    let kept = keeper.join(END).await;
    drop((talked, kept));
    first
}
