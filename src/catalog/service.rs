//! One service as the choice sees it.

use std::sync::Arc;

use super::backend::Backend;
use crate::config::services::Forwarding;

/// One service with its backends, in the order of the configuration.
#[derive(Debug, Clone)]
pub struct Service {
    pub name: Arc<str>,
    pub forwarding: Forwarding,
    pub backends: Vec<Backend>,
}

impl Service {
    /// The index of the backend with this [`super::live::Live::serial`].
    #[must_use]
    pub fn position(&self, serial: u32) -> Option<usize> {
        self.backends.iter().position(|backend| backend.live.serial() == serial)
    }
}
