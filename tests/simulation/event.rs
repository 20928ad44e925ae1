//! What can happen to a POP, as data: every event has a meaning in every situation, so that any may be left out.

use std::time::Duration;

use edgeproxy::announce::facts::Leaving;
use edgeproxy::announce::lease::Workers;
use edgeproxy::config::anycast::Intent;
use edgeproxy::health::Position;

use super::dice::Dice;

/// Prefixes and services are meant by number, modulo how many there are.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time passes. A late driver sleeps through what it should have woken for.
    Wait {
        length: Duration,
        late: bool,
    },
    /// Time passes up to the next deadline.
    ToDeadline,
    /// A service has another position.
    Service {
        service: u8,
        position: Position,
        proven: bool,
    },
    /// The prober knows nothing of a service (any more).
    Unheard {
        service: u8,
    },
    /// The prober renews its view, or has hung.
    Prober {
        alive: bool,
    },
    /// None: nobody has tried to bind its addresses.
    Address {
        prefix: u8,
        bound: Option<bool>,
    },
    Intent {
        prefix: u8,
        intent: Intent,
    },
    /// The prefix enters the configuration or leaves it.
    Listed {
        prefix: u8,
        listed: bool,
    },
    /// The prefix depends on these services, as bits.
    DependsOn {
        prefix: u8,
        services: u8,
    },
    /// Another choice of damping, see [`Setting`](super::setting::Setting).
    Damping {
        prefix: u8,
        choice: u8,
    },
    Attributes {
        prefix: u8,
        med: u32,
    },
    MaxAge(Duration),
    /// A drain is ordered, or ordered again.
    Drain {
        prefix: u8,
        deadline: Duration,
        resumed: bool,
    },
    Undrain {
        prefix: u8,
    },
    /// What drains was measured `age` ago.
    Flows {
        prefix: u8,
        open: u64,
        new_per_second: f64,
        age: Duration,
    },
    Leave(Leaving),
    /// What the workers' leases are worth.
    Workers(Workers),
    /// What the self-probes of a service found.
    Path {
        service: u8,
        found: Found,
    },
    Probing(Probing),
    /// A service has listeners at the addresses of these prefixes, as bits.
    Listens {
        service: u8,
        prefixes: u8,
        probed: bool,
    },
}

/// What self-probes found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    Nothing,
    Unproven,
    Serving,
    Failing,
}

/// Whether somebody probes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Probing {
    /// What serves is found to serve whenever somebody looks.
    Alive,
    Hung,
    Gone,
    /// There is nobody who would.
    Off,
}

impl Event {
    /// Any event; where services only flap, hardly anything but time and their positions.
    pub fn random(dice: &mut Dice, only_flaps: bool) -> Self {
        let which = dice.below(6) as u8;
        let prefix = which;
        let kinds = if only_flaps && !dice.chance(10) { 60 } else { 116 };
        match dice.below(kinds) {
            0..27 => {
                let position = dice.weighted(&[
                    (40, Position::Full),
                    (32, Position::Low),
                    (14, Position::Between),
                    (14, Position::BrownOut),
                ]);
                Self::Service { service: which, position, proven: !dice.chance(15) }
            }
            27..47 => Self::Wait { length: length(dice), late: dice.chance(20) },
            47..58 => Self::ToDeadline,
            58..60 => Self::Damping { prefix, choice: dice.pick(&[0, 1, 2, 3, 4, 5, 5, 5]) },
            60..63 => Self::Unheard { service: which },
            63..67 => Self::Prober { alive: dice.chance(75) },
            67..72 => {
                Self::Address { prefix, bound: dice.pick(&[None, Some(false), Some(true), Some(true)]) }
            }
            72..75 => Self::Intent { prefix, intent: dice.pick(&[Intent::Up, Intent::Up, Intent::Down]) },
            75..78 => Self::Listed { prefix, listed: dice.chance(70) },
            78..82 => Self::DependsOn { prefix, services: 1 + dice.below(7) as u8 },
            82 => Self::Attributes { prefix, med: dice.below(2) as u32 },
            83 => Self::MaxAge(dice.pick(&[Duration::from_millis(100), Duration::from_secs(3)])),
            84..90 => {
                let deadline = dice.pick(&[0, 1_000, 5_000, 60_000]);
                let deadline = Duration::from_millis(deadline);
                Self::Drain { prefix, deadline, resumed: dice.chance(15) }
            }
            90..93 => Self::Undrain { prefix },
            93..99 => Self::Flows {
                prefix,
                open: dice.pick(&[0, 0, 4, 5, 100]),
                new_per_second: dice.pick(&[0.0, 0.5, 2.0, 2.1, 50.0]),
                age: Duration::from_millis(dice.pick(&[0, 0, 100, 2_500, 3_000, 3_001])),
            },
            99 => Self::Leave(dice.pick(&[Leaving::Graceful, Leaving::Gone])),
            100..105 => {
                let (age, lease) = (Duration::from_millis(84), Duration::from_millis(60));
                Self::Workers(dice.weighted(&[
                    (60, Workers::Valid),
                    (15, Workers::Unproven { worker: 0 }),
                    (20, Workers::Expired { worker: 1, age, lease }),
                    (5, Workers::Missing { worker: 0 }),
                ]))
            }
            105..110 => {
                let found = dice.weighted(&[
                    (50, Found::Serving),
                    (30, Found::Failing),
                    (10, Found::Unproven),
                    (10, Found::Nothing),
                ]);
                Self::Path { service: which, found }
            }
            110..113 => Self::Probing(dice.weighted(&[
                (60, Probing::Alive),
                (20, Probing::Hung),
                (10, Probing::Gone),
                (10, Probing::Off),
            ])),
            _ => {
                let (prefixes, probed) = (dice.below(8) as u8, dice.chance(80));
                Self::Listens { service: which, prefixes, probed }
            }
        }
    }
}

/// Lengths about as long as what the configuration names, and some that hit it exactly.
fn length(dice: &mut Dice) -> Duration {
    match dice.below(10) {
        0 => Duration::from_nanos(dice.below(3)),
        1..3 => Duration::from_millis(dice.pick(&[10, 20, 40, 1_000, 2_000, 3_000, 4_000, 10_000])),
        3..5 => Duration::from_millis(dice.below(50)),
        5..8 => Duration::from_millis(dice.below(4_000)),
        8 => Duration::from_millis(dice.below(60_000)),
        _ => Duration::from_secs(dice.below(3_600)),
    }
}
