//! The whole set of routes this speaker wants its neighbors to have, guarded by the configured allow-list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::Attributes;
use crate::observe::journal::CauseId;

/// How much we want traffic for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    #[default]
    Normal,
    /// Others are better at the moment.
    Degraded,
    /// It is about to be withdrawn.
    Draining,
}

/// What neighbors shall be told about one prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    pub preference: Preference,
    /// The prefix's own attributes.
    pub attributes: Attributes,
    /// Added to them because of the preference; empty while it is normal.
    pub added: Attributes,
}

/// The prefixes of the configuration: nothing else can ever enter an [`OriginSet`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList(BTreeSet<AnycastPrefix>);

impl AllowList {
    /// Allows exactly these prefixes.
    pub fn new(prefixes: impl IntoIterator<Item = AnycastPrefix>) -> Self {
        Self(prefixes.into_iter().collect())
    }

    /// Whether a prefix may be announced: an exact match, never a part of an allowed one.
    #[must_use]
    pub fn allows(&self, prefix: &AnycastPrefix) -> bool {
        self.0.contains(prefix)
    }
}

/// A prefix outside the allow-list was about to be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a prefix of the configuration and must not be announced")]
pub struct NotAllowed(pub AnycastPrefix);

/// The whole desired state of announcements at one moment. Immutable once published.
///
/// INVARIANT: every prefix in it is in the allow-list it was made with; there is no other way in.
#[derive(Debug, Clone, Default)]
pub struct OriginSet {
    revision: u64,
    allow: Arc<AllowList>,
    routes: BTreeMap<AnycastPrefix, Arc<Route>>,
    /// Why each prefix is wanted, or not wanted, as it is.
    causes: BTreeMap<AnycastPrefix, CauseId>,
    cause: Option<Instant>,
}

impl OriginSet {
    /// An empty set. `revision` grows with every published set, so that "written up to" has a meaning.
    #[must_use]
    pub fn new(revision: u64, allow: Arc<AllowList>) -> Self {
        Self { revision, allow, ..Self::default() }
    }

    /// Wants `prefix` announced as `route` says.
    ///
    /// # Errors
    /// [`NotAllowed`] when the configuration does not hold the prefix; the set is unchanged.
    pub fn insert(&mut self, prefix: AnycastPrefix, route: Arc<Route>) -> Result<(), NotAllowed> {
        if !self.allow.allows(&prefix) {
            return Err(NotAllowed(prefix));
        }
        self.routes.insert(prefix, route);
        Ok(())
    }

    /// Remembers what made a prefix wanted or unwanted.
    pub fn set_cause_of(&mut self, prefix: AnycastPrefix, cause: CauseId) {
        self.causes.insert(prefix, cause);
    }

    /// What made a prefix wanted or unwanted.
    #[must_use]
    pub fn cause_of(&self, prefix: &AnycastPrefix) -> Option<CauseId> {
        self.causes.get(prefix).copied()
    }

    /// Remembers when the failure behind this set was known, for the time from failure to withdrawal.
    pub fn set_cause(&mut self, at: Option<Instant>) {
        self.cause = at;
    }

    /// When the failure behind this set was known, if a failure is behind it.
    #[must_use]
    pub fn cause(&self) -> Option<Instant> {
        self.cause
    }

    /// Grows with every published set.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The wanted routes in the order of their prefixes.
    pub fn routes(&self) -> impl Iterator<Item = (AnycastPrefix, &Arc<Route>)> {
        self.routes.iter().map(|(prefix, route)| (*prefix, route))
    }

    /// What is wanted for one prefix.
    #[must_use]
    pub fn get(&self, prefix: &AnycastPrefix) -> Option<&Arc<Route>> {
        self.routes.get(prefix)
    }

    /// Whether both sets want the same routes, whatever their revisions.
    #[must_use]
    pub fn same_routes(&self, other: &Self) -> bool {
        self.routes == other.routes
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_prefixes_of_the_configuration_enter() {
        let allowed = AnycastPrefix::new("198.51.100.0/24".parse().unwrap()).unwrap();
        let part = AnycastPrefix::new("198.51.100.0/25".parse().unwrap()).unwrap();
        let mut set = OriginSet::new(1, Arc::new(AllowList::new([allowed])));
        assert_eq!(set.insert(part, Arc::default()), Err(NotAllowed(part)));
        assert!(set.is_empty());
        assert_eq!(set.insert(allowed, Arc::default()), Ok(()));
        assert_eq!(set.routes().count(), 1);
    }
}
