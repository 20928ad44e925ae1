//! The snapshot that workers choose from; a new one takes its place whenever the configuration or a verdict changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::backend::{Backend, Known};
use super::geo::Geo;
use super::live::Live;
use super::service::Service;
use crate::config::services;

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

/// The part of a configuration that a view is made from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sources {
    pub region: String,
    pub services: BTreeMap<String, services::Service>,
}

/// Keeps the counts of backends over configurations.
#[derive(Debug, Default)]
pub struct Registry {
    lives: BTreeMap<(Arc<str>, Arc<str>, SocketAddr), Arc<Live>>,
}

impl Registry {
    /// The view of a configuration and of what health knows.
    pub fn build(&mut self, sources: &Sources, verdicts: &Verdicts, geo: Option<Arc<Geo>>) -> View {
        let mut before = std::mem::take(&mut self.lives);
        let mut services = BTreeMap::new();
        for (name, config) in &sources.services {
            let name: Arc<str> = name.as_str().into();
            let known = verdicts.get(&name);
            let backends = config.backends.iter().map(|backend| {
                let id: Arc<str> = backend.id.as_str().into();
                let address = SocketAddr::new(backend.address, backend.port);
                let key = (Arc::clone(&name), Arc::clone(&id), address);
                let live = before.remove(&key).unwrap_or_default();
                self.lives.insert(key, Arc::clone(&live));
                Backend {
                    known: known.and_then(|known| known.get(&id)).copied().unwrap_or_default(),
                    id,
                    address,
                    region: backend.region.as_str().into(),
                    country: backend.country.as_ref().and_then(|code| code.as_bytes().try_into().ok()),
                    weight: backend.weight,
                    soft_limit: backend.soft_limit,
                    hard_limit: backend.hard_limit,
                    drain: backend.drain,
                    live,
                }
            });
            let backends = backends.collect();
            let service = Service { name: Arc::clone(&name), forwarding: config.forwarding, backends };
            services.insert(name, Arc::new(service));
        }
        View { region: sources.region.as_str().into(), services, geo }
    }
}
