//! Many POPs from the real cores of replication, in virtual time, against what they should know of each other.
//!
//! Messages are lost, doubled, delayed and reordered; POPs are cut off, crash, come back from a disk that may have
//! been rolled back or lost. Afterwards everybody must know the same, and all that was acknowledged.
#![allow(clippy::unwrap_used)]
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "fresh seeds come from the clock, and are told"
)]

#[path = "replication/world.rs"]
mod world;

use std::time::Duration;

use world::{Fault, World};

const SECOND: Duration = Duration::from_secs(1);

/// Fixed ones, and how many fresh ones.
fn seeds() -> impl Iterator<Item = u64> {
    let fresh = if std::env::var_os("EDGEPROXY_FULL").is_some() { 10_000 } else { 150 };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let start = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse().unwrap());
    let fresh = match start {
        Some(seed) => seed..seed + 1,
        None => now.as_nanos() as u64..now.as_nanos() as u64 + fresh,
    };
    (0..if start.is_some() { 0 } else { 50 }).chain(fresh)
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
fn a_write_is_everywhere_soon() {
    each_seed(|seed| {
        let mut world = World::new(seed, 5);
        world.run(SECOND);
        for pop in 0..5 {
            world.write(pop, 3);
        }
        world.run(Duration::from_millis(600));
        world.assert_equal();
    });
}

#[test]
fn whatever_happens_everybody_knows_the_same_afterwards() {
    each_seed(|seed| {
        let mut world = World::new(seed, 5);
        for _ in 0..30 {
            world.mischief(&[
                Fault::Loss,
                Fault::Partition,
                Fault::Crash,
                Fault::Amnesia,
                Fault::Rollback,
                Fault::Disk,
            ]);
            world.run(Duration::from_millis(400));
        }
        world.heal();
        world.run(60 * SECOND);
        world.assert_equal();
        world.assert_nothing_acknowledged_is_lost();
    });
}

#[test]
fn what_is_deleted_stays_deleted_and_its_grave_goes() {
    each_seed(|seed| {
        let mut world = World::new(seed, 4);
        for _ in 0..10 {
            world.mischief(&[Fault::Loss, Fault::Partition, Fault::Crash]);
            world.run(Duration::from_millis(300));
        }
        world.heal();
        world.run(60 * SECOND);
        world.delete_everything();
        world.run(90 * SECOND);
        world.assert_equal();
        assert_eq!(world.rows(), 0, "graves are left");
    });
}
