//! The soak's cores: random faults from a seed, and a model that says when a prefix was told and nobody served it.

pub mod fault;
pub mod growth;
pub mod held;
pub mod model;
pub mod plan;
pub mod spans;
