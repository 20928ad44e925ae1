//! What the process tells about itself: status documents, metrics, logs.

pub mod status;
