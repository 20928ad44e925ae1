//! The configuration that a sequence begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use edgeproxy::announce::lease::Listens;
use edgeproxy::announce::ledger::Plan;
use edgeproxy::config::anycast::{Anycast, AnycastPrefix, Damping, Drain, Intent};
use edgeproxy::config::bgp::{Attributes, Community};
use edgeproxy::config::proxy::Lease;
use edgeproxy::config::services::{Level, Watermark};

use super::dice::Dice;

pub const SERVICES: [&str; 3] = ["web", "dns", "mail"];
const PREFIXES: [&str; 3] = ["198.51.100.0/24", "2001:db8:7::/48", "203.0.113.0/24"];

/// Watermarks of every service; [`weight_at`](super::pop::weight_at) has weights for each position between them.
pub const WATERMARK: Watermark =
    Watermark { low: Level::Weight(2), high: Level::Weight(4), degrade: Some(Level::Percent(50)) };

/// Two or three prefixes, two or three services, and how they depend on each other.
#[derive(Debug, Clone)]
pub struct Setting {
    pub services: u8,
    pub prefixes: Vec<Prefix>,
    pub max_age: Duration,
    /// The prober has spoken, and all services are up, before anything else happens.
    pub running: bool,
    /// Services that the proxy serves at every address, as bits.
    pub listening: u8,
}

#[derive(Debug, Clone)]
pub struct Prefix {
    pub prefix: AnycastPrefix,
    pub has_address: bool,
    /// As bits.
    pub services: u8,
    pub damping: u8,
    pub drain: Drain,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, prefixes, max_age, running, listening } = self;
        writeln!(
            f,
            "{services} services, {listening:03b} by the proxy, running: {running}, max_age: {max_age:?}"
        )?;
        for prefix in prefixes {
            let Prefix { prefix, has_address, services, damping, drain } = prefix;
            write!(f, "{prefix}: has an address: {has_address}, services: {services:03b}, ")?;
            write!(f, "damping: {:?}, quiet_for: {:?}, ", self::damping(*damping), drain.quiet_for)?;
            writeln!(f, "open_flows: {}, linger: {:?}", drain.open_flows, drain.linger)?;
        }
        Ok(())
    }
}

impl Setting {
    pub fn random(dice: &mut Dice) -> Self {
        let services = 2 + dice.below(2) as u8;
        let prefixes = (0..2 + dice.below(2) as usize).map(|number| Prefix::random(number, dice)).collect();
        let max_age = Duration::from_millis(dice.pick(&[400, 3_000]));
        let listening = if dice.chance(50) { dice.below(8) as u8 } else { 0 };
        Self { services, prefixes, max_age, running: dice.chance(80), listening }
    }

    /// All prefixes, all up.
    pub fn plan(&self) -> Plan {
        let services = &SERVICES[..usize::from(self.services)];
        Plan {
            anycast: self.prefixes.iter().map(|prefix| (prefix.prefix, self.anycast(prefix))).collect(),
            watermarks: services
                .iter()
                .map(|name| ((*name).to_owned(), WATERMARK))
                .collect::<BTreeMap<_, _>>(),
            listens: (0..)
                .zip(services)
                .filter(|(number, _)| self.listening & (1 << number) != 0)
                .map(|(_, name)| ((*name).to_owned(), self.listens(0b111, true)))
                .collect(),
            lease: Lease { probe_fall: 1, ..Lease::default() },
            max_age: self.max_age,
            graceful: Duration::from_secs(1),
        }
    }

    /// Listeners at the addresses of prefixes meant by bits.
    pub fn listens(&self, prefixes: u8, probed: bool) -> Listens {
        let meant = (0..).zip(&self.prefixes).filter(|(number, _)| prefixes & (1 << number) != 0);
        let addresses: BTreeSet<_> = meant.flat_map(|(_, prefix)| self.anycast(prefix).addresses).collect();
        Listens { probed: if probed { addresses.clone() } else { BTreeSet::new() }, addresses }
    }

    /// One prefix as it is configured at first.
    pub fn anycast(&self, prefix: &Prefix) -> Anycast {
        let inside = match prefix.prefix.network().ip() {
            std::net::IpAddr::V4(first) => std::net::IpAddr::V4((u32::from(first) + 1).into()),
            std::net::IpAddr::V6(first) => std::net::IpAddr::V6((u128::from(first) + 1).into()),
        };
        Anycast {
            prefix: prefix.prefix,
            addresses: if prefix.has_address { vec![inside] } else { Vec::new() },
            device: "lo".to_owned(),
            services: self.names(prefix.services),
            state: Intent::Up,
            attributes: Attributes { med: Some(0), ..Attributes::default() },
            degrade: Attributes { prepend: 3, communities: vec![Community(7)], ..Attributes::default() },
            drain: prefix.drain.clone(),
            min_announcers: 1,
            damping: damping(prefix.damping),
        }
    }

    /// The names of services meant by bits: at least one.
    pub fn names(&self, bits: u8) -> Vec<String> {
        let services = &SERVICES[..usize::from(self.services)];
        let meant = (0..).zip(services).filter(|(number, _)| bits & (1 << number) != 0);
        let names: Vec<String> = meant.map(|(_, name)| (*name).to_owned()).collect();
        if names.is_empty() { vec![services[0].to_owned()] } else { names }
    }
}

impl Prefix {
    fn random(number: usize, dice: &mut Dice) -> Self {
        let network = PREFIXES[number].parse().expect("a network");
        let mut communities = vec![Community(9)];
        if dice.chance(30) {
            communities.push(dice.pick(&[Community::GRACEFUL_SHUTDOWN, Community::NO_EXPORT]));
        }
        Self {
            prefix: AnycastPrefix::new(network).expect("without host bits"),
            has_address: dice.chance(80),
            services: 1 + dice.below(7) as u8,
            damping: dice.below(6) as u8,
            drain: Drain {
                attributes: Attributes { med: Some(900), communities, ..Attributes::default() },
                new_flows: 2,
                open_flows: dice.pick(&[0, 4]),
                quiet_for: Duration::from_millis(dice.pick(&[0, 1_000, 2_000, 5_000])),
                linger: Duration::from_millis(dice.pick(&[0, 1_000, 10_000])),
                ..Drain::default()
            },
        }
    }
}

/// Bounds that sequences reach, within those of the configuration.
pub fn damping(choice: u8) -> Option<Damping> {
    let millis = Duration::from_millis;
    let of = |min_up, max_dwell, decay| {
        Some(Damping { min_up: millis(min_up), max_dwell: millis(max_dwell), decay: millis(decay) })
    };
    match choice % 6 {
        0 => Some(Damping::default()),
        1 => of(1_000, 4_000, 10_000),
        2 => of(10, 35, 1_000),
        3 => of(2_000, 2_000, 3_000),
        // Forgiven while it still waits.
        4 => of(4_000, 60_000, 1_000),
        _ => None,
    }
}
