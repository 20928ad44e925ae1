//! The real cores of the decision in virtual time: against a reference model, and before a flapping backend.
//!
//! `model` makes random sequences of events. The seed of one that fails is printed together with the events
//! that are needed for it, and `SIMULATION_SEED=… cargo test --test simulation model` replays that one alone.
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout)]

#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/event.rs"]
mod event;
#[path = "simulation/flap.rs"]
mod flap;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/neighbor.rs"]
mod neighbor;
#[path = "simulation/path.rs"]
mod path;
#[path = "simulation/pop.rs"]
mod pop;
#[path = "simulation/properties.rs"]
mod properties;
#[path = "simulation/setting.rs"]
mod setting;
#[path = "simulation/shrink.rs"]
mod shrink;

use std::panic::catch_unwind;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dice::Dice;
use event::Event;
use pop::{Pop, Tally};
use properties::REASONS;
use setting::Setting;

/// Sequences of the default form; the full form makes ten times as many, other ones each time.
const SEQUENCES: u64 = 20_000;
const MOST_EVENTS: u64 = 48;

#[test]
fn model() {
    let full = std::env::var_os("EDGEPROXY_FULL").is_some();
    let seeds = match std::env::var("SIMULATION_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SIMULATION_SEED is a number");
            seed..seed + 1
        }
        Err(_) if full => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
            now << 24..(now << 24) + 10 * SEQUENCES
        }
        Err(_) => 0..SEQUENCES,
    };
    let (begun, start) = (Instant::now(), Instant::now());
    let mut tally = Tally::default();
    for seed in seeds.clone() {
        let (setting, events) = sequence(seed);
        match run(&setting, &events, start) {
            Ok(more) => tally.add(&more),
            Err(_) => fail(seed, &setting, &events, start),
        }
    }
    let count = seeds.end - seeds.start;
    let (looks, reasons) = (tally.looks, &tally.reasons);
    println!("{count} sequences from seed {}, {looks} judgements, {:.1?}", seeds.start, begun.elapsed());
    println!("{reasons:?}");
    let unmet = REASONS.iter().find(|name| count > 1 && !reasons.contains_key(*name));
    assert_eq!(unmet, None, "the sequences are too tame");
}

/// What a seed stands for.
fn sequence(seed: u64) -> (Setting, Vec<Event>) {
    let mut dice = Dice::new(seed);
    let setting = Setting::random(&mut dice);
    let only_flaps = dice.chance(40);
    let events = 4 + dice.below(MOST_EVENTS - 4);
    (setting, (0..events).map(|_| Event::random(&mut dice, only_flaps)).collect())
}

/// Plays a sequence. Gives what came about, or what was wrong.
fn run(setting: &Setting, events: &[Event], start: Instant) -> Result<Tally, String> {
    let play = || {
        let mut pop = Pop::new(setting, start);
        pop.begin()?;
        for event in events {
            pop.handle(event)?;
        }
        Ok(pop.into_tally())
    };
    // What panics is a sequence that fails too, and has a seed.
    catch_unwind(play).unwrap_or_else(|_| Err("it panicked, see above".to_owned()))
}

fn fail(seed: u64, setting: &Setting, events: &[Event], start: Instant) -> ! {
    let needed = shrink::shrink(events.to_vec(), |events| run(setting, events, start).is_err());
    let wrong = run(setting, &needed, start).expect_err("only failing sequences are kept");
    eprintln!("{setting}");
    for event in &needed {
        eprintln!("    {event:?}");
    }
    panic!("{wrong}\n(the events above, of seed {seed}: SIMULATION_SEED={seed} replays it)");
}
