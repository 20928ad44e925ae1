//! Permits and withdrawals as a model that a checker walks through: five voters, four POPs that announce one prefix,
//! crashes, and messages that are lost, doubled and reordered. The cores are the real ones.
#![allow(clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "the full form is asked for by the environment")]

#[path = "permits/model.rs"]
mod model;

use std::collections::BTreeSet;

use model::{Bounds, Fleet};
use stateright::{Checker, Model};

fn is_full() -> bool {
    std::env::var_os("EDGEPROXY_FULL").is_some()
}

/// Every state that can be reached in few steps.
#[test]
fn announcers_are_never_too_few_in_any_short_story() {
    let bounds = Bounds { drains: 2, failures: 1, crashes: 1, returns: 0 };
    let states = if is_full() { 40_000_000 } else { 300_000 };
    let checker = Fleet::new(1, bounds).checker().threads(2).target_state_count(states).spawn_bfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    checker.assert_no_discovery(model::ENOUGH);
}

/// Long stories, chosen at random.
fn in_long_stories(min: u32) {
    let stories = if is_full() { 100_000 } else { 1_500 };
    let fleet = Fleet::new(min, Bounds { drains: 4, failures: 3, crashes: 1, returns: 3 });
    let shown: BTreeSet<_> = (0..stories).flat_map(|seed| fleet.walk(seed, 400)).collect();
    // The stories go far enough to mean something.
    assert_eq!(shown.len(), 5, "{shown:?}");
}

#[test]
fn one_announcer_is_never_too_few_in_long_stories() {
    in_long_stories(1);
}

#[test]
fn two_announcers_are_never_too_few_in_long_stories() {
    in_long_stories(2);
}
