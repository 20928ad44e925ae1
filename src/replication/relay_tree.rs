//! Whom to tell what was just written.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::version::Origin;

/// Where a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub region: Arc<str>,
}

/// One that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub to: Origin,
    pub spread: bool,
}

/// Everybody, from the origin.
#[must_use]
pub fn targets(
    origin: &Origin,
    _version: u64,
    me: (&Origin, &str),
    members: &BTreeMap<Origin, Place>,
) -> Vec<Target> {
    if origin != me.0 {
        return Vec::new();
    }
    members.keys().map(|to| Target { to: to.clone(), spread: false }).collect()
}
