//! The `health` section: bounds of the prober as a whole.

use std::time::Duration;

/// Bounds of the prober.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Probes in flight at once. 1 to 4096; default 512.
    pub max_concurrent: usize,
    /// Health facts older than this are not believed (decision rule 4). 100 ms to 10 min; default 3 s.
    pub max_age: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { max_concurrent: 512, max_age: Duration::from_secs(3) }
    }
}
