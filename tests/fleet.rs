//! Many POPs that share a prefix, from the real cores of the decision and of the heartbeats, in virtual time: whatever
//! fails, is cut off, crashes or is drained, nobody leaves the prefix that it is needed for.
#![allow(clippy::unwrap_used)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "fresh seeds come from the clock, and are told"
)]

#[path = "fleet/world.rs"]
mod world;

use std::time::Duration;

use world::{Happens, World};

const SECOND: Duration = Duration::from_secs(1);

/// Fixed ones, and how many fresh ones.
fn seeds() -> impl Iterator<Item = u64> {
    let fresh = if std::env::var_os("EDGEPROXY_FULL").is_some() { 10_000 } else { 60 };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let start = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse().unwrap());
    let fresh = match start {
        Some(seed) => seed..seed + 1,
        None => now.as_nanos() as u64..now.as_nanos() as u64 + fresh,
    };
    (0..if start.is_some() { 0 } else { 40 }).chain(fresh)
}

/// Runs a story for every seed; the seed of one that fails is named.
fn each_seed(story: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in seeds() {
        if let Err(panic) = std::panic::catch_unwind(|| story(seed)) {
            eprintln!("SIMULATION_SEED={seed} replays it");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn nobody_leaves_who_is_needed() {
    each_seed(|seed| {
        let mut world = World::new(seed, 2 + seed as usize % 5, 1 + (seed as u32 / 7) % 2);
        world.run(3 * SECOND);
        assert_eq!(world.announcing(), world.pops(), "all of them announce in the beginning");
        for _ in 0..60 {
            let happens = world.any();
            world.happen(happens);
            let rest = Duration::from_millis(world.random(3_000).pow(2) / 3_000);
            world.run(rest);
        }
        // Whatever it was: when it is over, everybody announces as usual.
        world.mend();
        world.run(60 * SECOND);
        assert_eq!(world.serving(), world.pops(), "all of them serve again");
    });
}

#[test]
fn a_dependency_of_all_that_fails_leaves_the_prefix_announced() {
    each_seed(|seed| {
        let mut world = World::new(seed, 5, 1);
        world.run(3 * SECOND);
        for pop in 0..5 {
            world.happen(Happens::Fail { pop, proven: seed % 2 == 0 });
            let apart = world.random(200);
            world.run(Duration::from_millis(apart));
        }
        for _ in 0..40 {
            world.run(SECOND);
            assert!(world.announcing() > 0, "somebody holds it");
        }
    });
}

#[test]
fn no_split_leads_to_nobody_and_who_is_really_dead_withdraws() {
    each_seed(|seed| {
        let mut world = World::new(seed, 5, 1);
        world.run(3 * SECOND);
        // 2/3, and 4/1.
        let minority = if seed % 2 == 0 { 2 } else { 1 };
        world.split(minority);
        world.run(10 * SECOND);
        assert_eq!(world.announcing(), 5, "a split alone withdraws nothing");
        world.happen(Happens::Fail { pop: 0, proven: true });
        world.run(5 * SECOND);
        let left = world.is_announced(0);
        // Of two in a minority the other one serves on; alone, a proven fault withdraws.
        assert!(!left, "it is proven dead, and the others announce");
        assert_eq!(world.announcing(), 4);
        // Alone and only in doubt, it is held.
        world.happen(Happens::Mend { pop: 0 });
        world.run(60 * SECOND);
        world.happen(Happens::Fail { pop: 0, proven: false });
        world.run(5 * SECOND);
        assert_eq!(world.is_announced(0), minority == 1);
    });
}
