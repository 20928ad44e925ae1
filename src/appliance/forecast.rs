//! What a new configuration would do to every prefix and every neighbor, before it does it: pure.
//!
//! Prefixes are judged by the decision itself, with the present health; routes are dressed by the export of
//! the speaker itself, and compared with what each neighbor was really sent.

mod outlook;
mod route;
mod show;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::config::Config;
use crate::config::diff::{Change, Generations, NeighborChange, Word, diff};
use crate::observe::status::{NeighborStatus, PrefixStatus, ServiceStatus};
pub use route::{Action, Route};

/// The present, as the status documents tell it.
#[derive(Debug, Clone, Copy)]
pub struct Present<'a> {
    pub prefixes: &'a [PrefixStatus],
    pub neighbors: &'a [Arc<NeighborStatus>],
    pub services: &'a [ServiceStatus],
}

/// Everything that would change, and what would not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    pub generation: Generations,
    pub prefixes: Vec<PrefixForecast>,
    pub neighbors: Vec<NeighborForecast>,
    /// By name.
    pub services: BTreeMap<String, Change>,
    /// Peers of the backhaul, by POP.
    pub peers: BTreeMap<String, Change>,
    /// Words of the whole process.
    pub process: Vec<Word>,
    /// Words that wait for a restart.
    pub restart: Vec<Word>,
}

/// One prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrefixForecast {
    pub prefix: String,
    /// Its state, or `absent` while it is in no configuration.
    pub now: String,
    pub then: String,
    /// The reason of `then`, as a sentence.
    pub why: String,
    /// Announced now, and either withdrawn then, or taken at once from every neighbor that has it now.
    pub darkened: bool,
}

/// One neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NeighborForecast {
    pub name: String,
    #[serde(flatten)]
    pub change: NeighborChange,
    /// What it has or would be told, by prefix.
    pub routes: Vec<Route>,
}

impl Forecast {
    /// The prefixes that would go dark.
    #[must_use]
    pub fn darkened(&self) -> Vec<String> {
        self.prefixes.iter().filter(|it| it.darkened).map(|it| it.prefix.clone()).collect()
    }
}

/// Judges `new` against `old` and the present.
#[must_use]
pub fn forecast(old: &Config, new: &Config, present: &Present<'_>, now: Instant) -> Forecast {
    let changes = diff(old, new);
    let outlooks = outlook::all(old, new, present, now);
    let status: BTreeMap<_, _> = present.neighbors.iter().map(|it| (it.name.as_str(), &**it)).collect();
    let neighbors: Vec<_> = changes
        .neighbors
        .into_iter()
        .map(|(name, change)| {
            let its = status.get(name.as_str()).copied();
            let routes = route::all(&name, &change, new, its, &outlooks);
            NeighborForecast { name, change, routes }
        })
        .collect();
    let prefixes = outlooks
        .into_iter()
        .map(|(prefix, outlook)| {
            let prefix = prefix.to_string();
            let darkened =
                outlook.is_announced() && (outlook.is_withdrawn() || loses_all(&prefix, &neighbors));
            PrefixForecast { prefix, now: outlook.now, then: outlook.then, why: outlook.why, darkened }
        })
        .collect();
    Forecast {
        generation: changes.generation,
        prefixes,
        neighbors,
        services: changes.services,
        peers: changes.peers,
        process: changes.process,
        restart: changes.restart,
    }
}

/// Whether somebody has the prefix now, and nobody keeps it without a gap.
fn loses_all(prefix: &str, neighbors: &[NeighborForecast]) -> bool {
    let routes = neighbors.iter().flat_map(|neighbor| &neighbor.routes);
    let mut had = routes.filter(|route| route.prefix == prefix && route.old.is_some()).peekable();
    had.peek().is_some() && had.all(|route| matches!(route.action, Action::Withdraw | Action::Again))
}

#[cfg(test)]
mod tests;
