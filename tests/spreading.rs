//! How fast an update is everywhere: a thousand POPs in forty regions, in virtual time, told by the real relay tree;
//! beside it, in the same network, epidemic gossip as the yardstick.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
#![expect(
    clippy::disallowed_methods,
    reason = "a fresh seed comes from the clock, the full form from the environment"
)]

#[path = "spreading/world.rs"]
mod world;

use world::{Conditions, Spread, World};

struct Figures {
    p50: f64,
    p99: f64,
    messages: f64,
}

/// Updates of origins all over the fleet; milliseconds until 99 % of those that live have it.
fn measure(world: &mut World, how: Spread, updates: u64) -> Figures {
    let (mut took, mut messages) = (Vec::new(), 0);
    for version in 1..=updates {
        let (time, sent) = world.update(how, version);
        took.push(time);
        messages += sent;
    }
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took[((took.len() - 1) as f64 * part).round() as usize];
    Figures { p50: at(0.5), p99: at(0.99), messages: messages as f64 / updates as f64 / world.pops() as f64 }
}

#[test]
fn updates_are_everywhere_soon() {
    let full = std::env::var_os("EDGEPROXY_FULL").is_some();
    let updates = if full { 20_000 } else { 160 };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for seed in [1, now.as_nanos() as u64] {
        for (name, conditions, goal) in [
            ("one_percent_lost", Conditions { lost: 0.01, dead: 0.0 }, 250.0),
            ("five_percent_lost_ten_dead", Conditions { lost: 0.05, dead: 0.10 }, 500.0),
        ] {
            let mut world = World::new(seed, 40, 25, conditions);
            let tree = measure(&mut world, Spread::RelayTree, updates);
            let gossip = measure(&mut world, Spread::Gossip, updates / 4);
            let ratio = gossip.p99 / tree.p99;
            println!(
                "{{\"simulation\": \"spreading\", \"seed\": {seed}, \"conditions\": \"{name}\", \"updates\": {updates}, \
                 \"tree\": {{\"p50_ms\": {:.1}, \"p99_ms\": {:.1}, \"goal_ms\": {goal}, \"messages_per_pop\": {:.2}, \
                 \"goal_messages\": 3}}, \"gossip\": {{\"p50_ms\": {:.1}, \"p99_ms\": {:.1}, \"messages_per_pop\": {:.2}}}, \
                 \"gossip_to_tree\": {ratio:.1}, \"goal_ratio\": 2}}",
                tree.p50, tree.p99, tree.messages, gossip.p50, gossip.p99, gossip.messages
            );
            // Virtual time is the same on every machine: these are no matter of its speed.
            assert!(tree.p99 <= goal, "seed {seed}, {name}: p99 {:.1} ms", tree.p99);
            assert!(tree.messages <= 3.0, "seed {seed}, {name}: {:.2} messages", tree.messages);
            assert!(ratio >= 2.0, "seed {seed}, {name}: gossip takes {ratio:.1} times as long");
        }
    }
}
