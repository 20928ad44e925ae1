//! What the process tells about itself: status documents, metrics, logs, and the journal of what happened.

pub mod journal;
pub mod log;
pub mod metrics;
#[cfg(test)]
pub(crate) mod samples;
pub mod status;
