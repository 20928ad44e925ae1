//! What the journal is asked for, and which of its recent entries are the answer.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::{Answer, Route, Snapshot, find};
use crate::admin::{Events, query};
use crate::observe::journal::Entry;
use crate::observe::journal::recent::Recent;

/// The most entries of one answer.
pub(super) const MOST: usize = 1_000;
/// So many entries stand under an explanation.
const HISTORY: usize = 10;

/// With `after`: what is after that number, the oldest first; without it, the newest. `wait` without anything
/// to tell is [`Route::Await`].
pub(super) fn events(query: &str, now: &Snapshot) -> Route {
    let refusal = |why: &str| Route::Answer(Answer::refusal(400, why));
    let Ok(after) = number(query, "after") else {
        return refusal("after is the number of an entry, its seq");
    };
    let limit = match number(query, "limit") {
        Ok(limit) => limit.unwrap_or(MOST as u64) as usize,
        Err(()) => usize::MAX,
    };
    if limit > MOST {
        return refusal(&format!("limit is a number of entries, at most {MOST}"));
    }
    let prefix = match query::value(query, "prefix").map(|wanted| name(&wanted, now).ok_or(wanted)) {
        Some(Err(wanted)) => return refusal(&format!("{wanted} is no prefix and no address in one")),
        Some(Ok(prefix)) => Some(prefix),
        None => None,
    };
    let last_seq = now.events.last_seq();
    // Numbers of an earlier process that could not write them down.
    let anew = after.is_some_and(|after| after > last_seq);
    let entries = select(&now.events, prefix.as_deref(), after, limit);
    let cut = after.is_some() && entries.len() == limit;
    let seq = entries.last().filter(|_| cut).map_or(last_seq, |last| last.seq);
    let nothing = entries.is_empty() && !anew;
    let answer = Answer::json(&Events { entries, seq });
    let waits = after.is_some() && query::value(query, "wait").as_deref() == Some("1");
    if nothing && waits { Route::Await(answer) } else { Route::Answer(answer) }
}

/// The last entries about a prefix, oldest first, and what caused others before them: nothing stands before a
/// withdrawal, so that its verdict may be noted after it.
pub(super) fn history(events: &Recent, prefix: &str) -> Vec<Entry> {
    let mut entries = select(events, Some(prefix), None, HISTORY);
    let mut first = BTreeMap::new();
    for entry in &entries {
        first.entry(entry.cause).or_insert(entry.seq);
    }
    entries.sort_by_key(|entry| match entry.cause {
        Some(_) if entry.event.prefix().is_none() => (first[&entry.cause], 0),
        _ => (entry.seq, 1),
    });
    entries
}

fn select(events: &Recent, prefix: Option<&str>, after: Option<u64>, limit: usize) -> Vec<Entry> {
    let seq = after.unwrap_or(0);
    let entries: Vec<&Entry> = match prefix {
        Some(prefix) => events.about(prefix, seq).collect(),
        None => events.after(seq).collect(),
    };
    // What is late must not keep the asker from going on.
    let (late, new) = entries.split_at(entries.partition_point(|entry| entry.seq <= seq));
    let new = match after {
        Some(_) => &new[..limit.min(new.len())],
        None => newest(new, limit),
    };
    newest(late, limit - new.len()).iter().chain(new).copied().cloned().collect()
}

fn newest<T>(entries: &[T], limit: usize) -> &[T] {
    &entries[entries.len().saturating_sub(limit)..]
}

/// As entries name the prefix, which need not be of this configuration any more.
fn name(wanted: &str, now: &Snapshot) -> Option<String> {
    if let Some(prefix) = find(wanted, &now.prefixes) {
        return Some(prefix.prefix.clone());
    }
    let network: IpNetwork = wanted.trim().parse().ok()?;
    Some(format!("{}/{}", network.network(), network.prefix()))
}

/// The number of a key, if the key is there.
fn number(query: &str, key: &str) -> Result<Option<u64>, ()> {
    query::value(query, key).map(|value| value.parse().map_err(drop)).transpose()
}
