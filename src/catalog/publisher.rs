//! Publishes a new view whenever the configuration or a verdict changes.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::view::{Registry, Sources, Verdicts, View};

/// Makes views.
#[derive(Debug)]
pub struct Publisher {
    sources: watch::Receiver<Arc<Sources>>,
    verdicts: watch::Receiver<Arc<Verdicts>>,
    view: watch::Sender<Arc<View>>,
    registry: Registry,
}

impl Publisher {
    /// `sources` and `verdicts`: the newest of each wins. `view`: where to publish.
    #[must_use]
    pub fn new(
        sources: watch::Receiver<Arc<Sources>>,
        verdicts: watch::Receiver<Arc<Verdicts>>,
        view: watch::Sender<Arc<View>>,
    ) -> Self {
        Self { sources, verdicts, view, registry: Registry::default() }
    }

    /// Runs until `stop`, or until either source is gone: the last view stays.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let (sources, verdicts) =
                (self.sources.borrow_and_update().clone(), self.verdicts.borrow_and_update().clone());
            let view = self.registry.build(&sources, &verdicts, sources.geo.clone());
            self.view.send_replace(Arc::new(view));
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = self.sources.changed() => changed,
                changed = self.verdicts.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }
}
