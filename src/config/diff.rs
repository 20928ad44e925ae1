//! What a new configuration changes, and what it does to the sessions.
//!
//! A word is a key of the configuration with its old and its new value. A neighbor is kept, changed
//! softly (it is told other routes, the session stays) or reset. Every struct is taken apart field
//! by field, so that a new field does not compile until somebody has said what changing it means.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Config;
use super::admin::Admin;
use super::backhaul::{Backhaul, Peer};
use super::bgp::{Bgp, Neighbor};

mod word;

pub use word::Word;
use word::Words;

/// The difference between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    pub generation: Generations,
    /// By name.
    pub neighbors: BTreeMap<String, NeighborChange>,
    /// By prefix.
    pub prefixes: BTreeMap<String, Change>,
    /// By name.
    pub services: BTreeMap<String, Change>,
    /// Peers of the backhaul, by POP.
    pub peers: BTreeMap<String, Change>,
    /// Words of the whole process that a reload changes without touching a session or a prefix.
    pub process: Vec<Word>,
    /// Words that a reload cannot change: the process keeps the old value until it is restarted.
    pub restart: Vec<Word>,
}

/// The generations of the old and the new configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Generations {
    pub old: u64,
    pub new: u64,
}

/// What happens to a neighbor's session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", content = "words", rename_all = "lowercase")]
pub enum NeighborChange {
    Added,
    Removed,
    /// Nothing is said to it.
    Keep,
    /// The session stays; routes may be sent again with other attributes.
    Soft(Vec<Word>),
    /// The session is closed and begins anew. The words that cause it come first.
    Reset(Vec<Word>),
}

/// What happens to a prefix, a service or a peer of the backhaul.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", content = "words", rename_all = "lowercase")]
pub enum Change {
    Added,
    Removed,
    Keep,
    Changed(Vec<Word>),
}

impl Diff {
    /// Whether nothing but the generation changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.neighbors.values().all(|change| *change == NeighborChange::Keep)
            && [&self.prefixes, &self.services, &self.peers]
                .into_iter()
                .flat_map(BTreeMap::values)
                .all(|change| *change == Change::Keep)
            && self.process.is_empty()
            && self.restart.is_empty()
    }
}

/// Compares two configurations; what does not change is listed too, as kept.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Diff {
    let Config {
        generation,
        pop,
        bgp,
        anycast,
        services,
        health,
        proxy,
        backhaul,
        replication,
        admin,
        observe,
    } = old;
    let Admin { socket, operator_key, max_darkened } = admin;

    let (proxy, workers) = word::proxy(proxy, &new.proxy);
    let (backhaul_words, backhaul_restart) = word::section(backhaul.as_ref(), new.backhaul.as_ref());
    let (replication_words, replication_restart) =
        word::replication(replication.as_ref(), new.replication.as_ref());
    let mut restart = Words::default();
    restart.compare("pop.id", &pop.id, &new.pop.id, Clone::clone);
    restart.compare("admin.socket", socket, &new.admin.socket, |path| path.display().to_string());
    let metrics =
        |it: &Option<_>| it.map_or("off".to_owned(), |socket: std::net::SocketAddr| socket.to_string());
    restart.compare("observe.metrics", &observe.metrics, &new.observe.metrics, metrics);
    restart.debug("observe.log.format", &observe.log.format, &new.observe.log.format);

    let mut process = Words::default();
    process.compare("pop.region", &pop.region, &new.pop.region, Clone::clone);
    let location =
        |at: &Option<(f64, f64)>| at.map_or("none".to_owned(), |(north, east)| format!("[{north}, {east}]"));
    process.compare("pop.location", &pop.location, &new.pop.location, location);
    process.debug("bgp.shutdown.graceful", &bgp.shutdown.graceful, &new.bgp.shutdown.graceful);
    process
        .compare("bgp.shutdown.text", &bgp.shutdown.text, &new.bgp.shutdown.text, |text| format!("{text:?}"));
    process.debug("health.max_concurrent", &health.max_concurrent, &new.health.max_concurrent);
    process.debug("health.max_age", &health.max_age, &new.health.max_age);
    process.optional("admin.operator_key", operator_key, &new.admin.operator_key);
    process.text("admin.max_darkened", max_darkened, &new.admin.max_darkened);
    process.debug("observe.log.level", &observe.log.level, &new.observe.log.level);

    Diff {
        generation: Generations { old: *generation, new: new.generation },
        neighbors: neighbors(bgp, &new.bgp),
        prefixes: both(anycast, &new.anycast, word::prefix).collect(),
        services: both(services, &new.services, word::service).collect(),
        peers: both(&peers(backhaul.as_ref()), &peers(new.backhaul.as_ref()), |old, new| {
            word::peer(old, new)
        })
        .collect(),
        process: process
            .done()
            .into_iter()
            .chain(proxy)
            .chain(backhaul_words)
            .chain(replication_words)
            .collect(),
        restart: restart
            .done()
            .into_iter()
            .chain(workers)
            .chain(backhaul_restart)
            .chain(replication_restart)
            .collect(),
    }
}

fn neighbors(old: &Bgp, new: &Bgp) -> BTreeMap<String, NeighborChange> {
    let Bgp { asn, router_id, listen, shutdown: _, neighbors } = old;
    let mut speaker = Words::default();
    speaker.compare("bgp.asn", asn, &new.asn, ToString::to_string);
    speaker.compare("bgp.router_id", router_id, &new.router_id, ToString::to_string);
    speaker.list("bgp.listen", listen, &new.listen);
    let speaker = speaker.done();

    let by_name = |list: &'_ [Neighbor]| -> BTreeMap<String, Neighbor> {
        list.iter().map(|neighbor| (neighbor.name.clone(), neighbor.clone())).collect()
    };
    let (old, new) = (by_name(neighbors), by_name(&new.neighbors));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let change = |name: &String| match (old.get(name), new.get(name)) {
        (None, _) => NeighborChange::Added,
        (_, None) => NeighborChange::Removed,
        (Some(old), Some(new)) => {
            let (resetting, soft) = word::neighbor(old, new);
            let mut words = speaker.clone();
            words.extend(resetting);
            match (words.is_empty(), soft.is_empty()) {
                (true, true) => NeighborChange::Keep,
                (true, false) => NeighborChange::Soft(soft),
                (false, _) => {
                    words.extend(soft);
                    NeighborChange::Reset(words)
                }
            }
        }
    };
    names.into_iter().map(|name| (name.clone(), change(name))).collect()
}

fn peers(backhaul: Option<&Arc<Backhaul>>) -> BTreeMap<String, &Peer> {
    backhaul.into_iter().flat_map(|it| &it.peers).map(|peer| (peer.pop.clone(), peer)).collect()
}

/// The change of every key of two maps.
fn both<'m, K: Ord + ToString, V>(
    old: &'m BTreeMap<K, V>,
    new: &'m BTreeMap<K, V>,
    words: fn(&V, &V) -> Vec<Word>,
) -> impl Iterator<Item = (String, Change)> + 'm {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    keys.into_iter().map(move |key| {
        let change = match (old.get(key), new.get(key)) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(old), Some(new)) => match words(old, new) {
                words if words.is_empty() => Change::Keep,
                words => Change::Changed(words),
            },
        };
        (key.to_string(), change)
    })
}

impl fmt::Display for Diff {
    /// One line for each neighbor, prefix, service, peer and word, in columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none: &[Word] = &[];
        let neighbors = self.neighbors.iter().map(|(name, change)| {
            let (does, words) = match change {
                NeighborChange::Added => ("add", none),
                NeighborChange::Removed => ("remove", none),
                NeighborChange::Keep => ("keep", none),
                NeighborChange::Soft(words) => ("soft", words.as_slice()),
                NeighborChange::Reset(words) => ("reset", words.as_slice()),
            };
            ("neighbor", name.as_str(), does, words)
        });
        let parts = [("prefix", &self.prefixes), ("service", &self.services), ("peer", &self.peers)];
        let others = parts.into_iter().flat_map(|(kind, changes)| {
            changes.iter().map(move |(name, change)| match change {
                Change::Added => (kind, name.as_str(), "add", none),
                Change::Removed => (kind, name.as_str(), "remove", none),
                Change::Keep => (kind, name.as_str(), "keep", none),
                Change::Changed(words) => (kind, name.as_str(), "change", words.as_slice()),
            })
        });
        let rows: Vec<_> = neighbors.chain(others).collect();
        let width = rows.iter().map(|(_, name, ..)| name.len()).max().unwrap_or_default();
        write!(f, "generation {} → {}", self.generation.old, self.generation.new)?;
        for (kind, name, does, words) in rows {
            let words = words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let line = format!("{kind:<9} {name:<width$} {does:<7} {words}");
            write!(f, "\n{}", line.trim_end())?;
        }
        for word in &self.process {
            write!(f, "\nprocess   {word}")?;
        }
        for word in &self.restart {
            write!(f, "\nrestart   {word} (kept until the process is restarted)")?;
        }
        Ok(())
    }
}
