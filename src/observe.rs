//! What the process tells about itself: status documents, metrics, logs.

pub mod journal;
pub mod log;
pub mod metrics;
#[cfg(test)]
pub(crate) mod samples;
pub mod status;
