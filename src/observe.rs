//! What the process tells about itself: status documents, metrics, logs.

pub mod log;
pub mod metrics;
pub mod status;
