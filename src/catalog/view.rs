//! The snapshot that workers choose from; a new one takes its place whenever the configuration or a verdict changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend::Known;
use super::geo::Geo;
use super::live::Live;
use super::service::Service;

/// Verdicts of all backends, by service and id. Who is missing is unproven.
pub type Verdicts = BTreeMap<Arc<str>, BTreeMap<Arc<str>, Known>>;

/// Everything that a choice is made from.
#[derive(Debug, Default)]
pub struct View {
    /// This POP's region.
    pub region: Arc<str>,
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
    pub geo: Option<Arc<Geo>>,
}

/// Keeps the counts of backends over configurations.
#[derive(Debug, Default)]
pub struct Registry {
    lives: BTreeMap<(Arc<str>, Arc<str>, std::net::SocketAddr), Arc<Live>>,
}
