//! What is said of backends at other POPs: the word of the POP that owns them, and the path to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::config::services::id_at_its_pop;

/// Everything that is said at one moment.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// None: nobody has spoken yet. An old word is not believed, whoever said it.
    pub as_of: Option<Instant>,
    pub words: Words,
}

/// By service and id. A backend that is missing is one of which nothing was heard yet.
pub type Words = BTreeMap<(Arc<str>, Arc<str>), Word>;

/// What counts for one backend, aged and with the path taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    Up,
    /// Why, in words for operators.
    Down(Arc<str>),
}

/// A backend of another POP.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Here.
    pub id: Arc<str>,
    /// Service and id, as its POP calls them.
    pub there: (Arc<str>, Arc<str>),
    pub pop: Arc<str>,
}

impl Remote {
    #[must_use]
    pub fn new(service: Arc<str>, id: Arc<str>, pop: Arc<str>) -> Self {
        let there = match id_at_its_pop(&id) {
            same if same.len() == id.len() => Arc::clone(&id),
            there => there.into(),
        };
        Self { id, there: (service, there), pop }
    }
}
