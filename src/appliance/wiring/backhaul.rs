//! The threads of the backhaul: "backhaul" carries packets, "paths" keeps the ways to peers. They begin and end together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backhaul::BackhaulError;
use crate::backhaul::kernel::Kernel;
use crate::backhaul::paths::{self, Paths};
use crate::backhaul::plane::{Kind, Report, Wanted};
use crate::backhaul::userspace::{Setting, Userspace};
use crate::catalog::remote::Said;
use crate::catalog::tunnels::Tunnels;
use crate::catalog::view::{Sources, Verdicts};
use crate::config::backhaul::{Backhaul, PlaneChoice};
use crate::observe::status::backhaul::BackhaulStatus;
use crate::supervise::thread::Thread;

/// How long the threads may take to end.
const END: Duration = Duration::from_secs(2);

/// What the backhaul needs of the others, and gives them. Outlives every start of it.
#[derive(Clone)]
pub(super) struct Ends {
    pub(super) config: watch::Receiver<Arc<Backhaul>>,
    pub(super) sources: watch::Receiver<Arc<Sources>>,
    pub(super) verdicts: watch::Receiver<Arc<Verdicts>>,
    pub(super) said: Arc<watch::Sender<Arc<Said>>>,
    pub(super) status: Arc<watch::Sender<Arc<BackhaulStatus>>>,
    pub(super) tunnels: Arc<watch::Sender<Arc<Tunnels>>>,
}

/// Runs both threads until they are told to stop, or one of them ends.
pub(super) async fn run(ends: Ends, stop: CancellationToken) -> Result<(), BackhaulError> {
    let ended = live(ends.clone(), stop).await;
    ends.tunnels.send_replace(Arc::default());
    if let Err(error) = &ended {
        let config = ends.config.borrow();
        ends.status.send_replace(Arc::new(BackhaulStatus {
            error: Some(error.to_string()),
            interface: config.interface.clone(),
            fleet: config.fleet.to_string(),
            node: config.node().to_string(),
            ..BackhaulStatus::default()
        }));
    }
    ended
}

async fn live(mut ends: Ends, stop: CancellationToken) -> Result<(), BackhaulError> {
    let config = Arc::clone(&ends.config.borrow_and_update());
    let keys = paths::keys(&config)?;
    let (keyed, plane_keys) = watch::channel(Arc::new(keys.clone()));
    let (wanted, plane_wanted) = watch::channel(Arc::new(Wanted::default()));
    let (reported, report) = watch::channel(Arc::new(Report::default()));
    let setting = Setting {
        interface: config.interface.clone(),
        listen: config.listen,
        node: config.node(),
        offload_tun: config.offload_tun,
        offload_udp: config.offload_udp,
    };
    // A token of this start: whichever thread ends first ends the other.
    let both = stop.child_token();
    let (open, opened) = oneshot::channel();
    let (end, choice) = (both.clone(), config.backend);
    let mut plane = Thread::spawn_local("backhaul", move || async move {
        if choice != PlaneChoice::Userspace {
            let (name, port) = (&setting.interface, setting.listen);
            let opened =
                Kernel::open(name, port, plane_keys.clone(), plane_wanted.clone(), reported.clone()).await;
            match opened {
                Ok(plane) => {
                    let _ = open.send(Kind::Kernel);
                    return plane.run(end).await;
                }
                Err(BackhaulError::NoKernel(why)) if choice == PlaneChoice::Auto => {
                    info!("the backhaul runs in userspace: {why}");
                }
                Err(error) => return Err(error),
            }
        }
        let plane = Userspace::open(&setting, plane_keys, plane_wanted, reported)?;
        let _ = open.send(Kind::Userspace);
        plane.run(end).await
    })
    .map_err(BackhaulError::Plane)?;
    let Ok(kind) = opened.await else {
        return plane.await.map_err(BackhaulError::from)?;
    };
    let (interface, port, node) = (&config.interface, config.listen, config.node());
    info!(interface, port, %node, backend = kind.word(), "the backhaul carries packets");
    let inputs = paths::Ends {
        config: ends.config,
        sources: ends.sources,
        verdicts: ends.verdicts,
        report,
        keys: keyed,
        wanted,
        said: ends.said,
        status: ends.status,
        tunnels: ends.tunnels,
    };
    let end = both.clone();
    let mut paths =
        Thread::spawn("paths", move || async move { Paths::open(inputs, keys).await?.run(end).await })
            .map_err(BackhaulError::Plane)?;
    let first = tokio::select! {
        ended = &mut plane => ended,
        ended = &mut paths => ended,
    };
    both.cancel();
    // The other needs no more than its turn; the interface is gone when the plane is.
    let _ = tokio::join!(plane.join(END), paths.join(END));
    first.map_err(BackhaulError::from)?
}
