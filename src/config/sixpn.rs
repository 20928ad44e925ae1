//! The address plan of the fleet's private IPv6 network (6PN): pure, and reversible.
//!
//! ```text
//!  48 bits            4        8     4      64
//! ┌──────────────────┬────────┬─────┬──────┬──────────┐
//! │ fleet (RFC 4193) │ region │ POP │ kind │ id       │
//! └──────────────────┴────────┴─────┴──────┴──────────┘
//!  one /60 for each POP, and nothing else is routed to it
//! ```

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnetwork::Ipv6Network;

/// A fleet's /48 in fd00::/8, with 40 random bits (RFC 4193 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fleet(u64);

/// A region's number, 0 to 15. 0 is the fleet itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionCode(u8);

/// A POP's place in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub region: RegionCode,
    pub pop: u8,
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The POP itself: its node, its resolver, its ingress.
    Infrastructure,
    Machines,
    /// Addresses of services that only this POP has.
    Services,
    /// External peers, such as an engineer's laptop.
    Peers,
}

/// One address, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spot {
    pub place: Place,
    pub kind: Kind,
    pub id: u64,
}

/// Why an address or a prefix is not of the plan. The words say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SixpnError {
    #[error("{0} is no IPv6 address: an address of the 6PN looks like fd5a:1c7e:92b4:3010::1")]
    NoAddress(String),
    #[error(
        "{0} is no IPv6 prefix: a fleet's looks like fd5a:1c7e:92b4::/48; `edgeproxy sixpn init` makes one"
    )]
    NoPrefix(String),
    #[error(
        "{0} is not in fd00::/8, where private networks are (RFC 4193): `edgeproxy sixpn init` makes a prefix"
    )]
    NotPrivate(Ipv6Addr),
    #[error("{0} is a /{1}, and a fleet has a /48: `edgeproxy sixpn init` makes one")]
    NotForty8(Ipv6Addr, u8),
    #[error("{0} has bits behind its /48: write {1}/48")]
    HostBits(Ipv6Addr, Ipv6Addr),
    #[error(
        "the 40 bits of {0} are not random, and another network will have chosen them too: `edgeproxy sixpn init` makes a prefix"
    )]
    NotRandom(Ipv6Addr),
    #[error("{0} is not in the fleet's {1}")]
    Foreign(Ipv6Addr, Fleet),
    #[error(
        "{address} has the kind {kind}, which means nothing: 0 infrastructure, 1 machines, 2 services, 3 peers"
    )]
    UnknownKind { address: Ipv6Addr, kind: u8 },
}

/// The id of the POP itself, and of its resolver, in its infrastructure.
pub const NODE: u64 = 1;
pub const RESOLVER: u64 = 0x53;

const REGIONS: [(&str, u8); 4] = [("eu", 1), ("us", 2), ("sa", 3), ("ap", 4)];

impl Fleet {
    /// Takes a prefix that somebody wrote.
    ///
    /// # Errors
    /// It is no /48 of RFC 4193 with random bits.
    pub fn new(prefix: Ipv6Network) -> Result<Self, SixpnError> {
        let first = prefix.ip();
        if first.octets()[0] != 0xfd {
            return Err(SixpnError::NotPrivate(first));
        }
        if prefix.prefix() != 48 {
            return Err(SixpnError::NotForty8(first, prefix.prefix()));
        }
        if prefix.network() != first {
            return Err(SixpnError::HostBits(first, prefix.network()));
        }
        let fleet = Self((first.to_bits() >> 80) as u64);
        // Nothing can prove that bits are random. Five octets of which four are the same were typed.
        let random = &first.octets()[1..6];
        if random.iter().any(|octet| random.iter().filter(|other| *other == octet).count() >= 4) {
            return Err(SixpnError::NotRandom(first));
        }
        Ok(fleet)
    }

    /// Makes a prefix of random bits.
    #[must_use]
    pub fn from_random(bits: [u8; 5]) -> Self {
        let bits = bits.iter().fold(0, |bits, octet| bits << 8 | u64::from(*octet));
        Self(0xfd << 40 | bits)
    }

    #[must_use]
    pub fn prefix(&self) -> Ipv6Network {
        net(u128::from(self.0) << 80, 48)
    }

    #[must_use]
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        (address.to_bits() >> 80) as u64 == self.0
    }

    /// The /60 of a POP: the one prefix whose addresses it may use.
    #[must_use]
    pub fn subnet(&self, place: Place) -> Ipv6Network {
        net(self.base(place), 60)
    }

    /// The POP itself.
    #[must_use]
    pub fn node(&self, place: Place) -> Ipv6Addr {
        self.address(Spot { place, kind: Kind::Infrastructure, id: NODE })
    }

    #[must_use]
    pub fn resolver(&self, place: Place) -> Ipv6Addr {
        self.address(Spot { place, kind: Kind::Infrastructure, id: RESOLVER })
    }

    #[must_use]
    pub fn address(&self, spot: Spot) -> Ipv6Addr {
        let bits = self.base(spot.place) | u128::from(spot.kind.code()) << 64 | u128::from(spot.id);
        Ipv6Addr::from_bits(bits)
    }

    /// What an address is: the way back from [`Fleet::address`].
    ///
    /// # Errors
    /// It is not of this fleet, or of no kind.
    pub fn explain(&self, address: Ipv6Addr) -> Result<Spot, SixpnError> {
        if address.octets()[0] != 0xfd {
            return Err(SixpnError::NotPrivate(address));
        }
        if !self.contains(address) {
            return Err(SixpnError::Foreign(address, *self));
        }
        let bits = address.to_bits();
        let code = (bits >> 64 & 15) as u8;
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code);
        let kind = kind.ok_or(SixpnError::UnknownKind { address, kind: code })?;
        let place = Place { region: RegionCode((bits >> 76 & 15) as u8), pop: (bits >> 68) as u8 };
        Ok(Spot { place, kind, id: bits as u64 })
    }

    fn base(&self, place: Place) -> u128 {
        u128::from(self.0) << 80 | u128::from(place.region.0) << 76 | u128::from(place.pop) << 68
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix().fmt(f)
    }
}

impl FromStr for Fleet {
    type Err = SixpnError;

    fn from_str(text: &str) -> Result<Self, SixpnError> {
        let prefix = text.parse().ok().filter(|_| text.contains('/'));
        Self::new(prefix.ok_or_else(|| SixpnError::NoPrefix(text.to_owned()))?)
    }
}

/// An address that somebody wrote.
///
/// # Errors
/// It is none.
pub fn address(text: &str) -> Result<Ipv6Addr, SixpnError> {
    text.parse().map_err(|_| SixpnError::NoAddress(text.chars().take(64).collect()))
}

impl RegionCode {
    /// # Errors
    /// None for more than four bits.
    #[must_use]
    pub fn new(code: u8) -> Option<Self> {
        (code < 16).then_some(Self(code))
    }

    /// The code of a region that v1's users know.
    #[must_use]
    pub fn of(region: &str) -> Option<Self> {
        REGIONS.iter().find(|(name, _)| *name == region).map(|(_, code)| Self(*code))
    }

    /// The name of such a region.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        REGIONS.iter().find(|(_, code)| *code == self.0).map(|(name, _)| *name)
    }

    #[must_use]
    pub fn code(self) -> u8 {
        self.0
    }
}

impl Place {
    /// Two octets that name a place: four bits of zero, region, POP.
    #[must_use]
    pub fn to_bits(self) -> u16 {
        u16::from(self.region.0) << 8 | u16::from(self.pop)
    }

    #[must_use]
    pub fn from_bits(bits: u16) -> Option<Self> {
        Some(Self { region: RegionCode::new((bits >> 8) as u8)?, pop: bits as u8 })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region {} number {}", self.region.0, self.pop)
    }
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Infrastructure, Self::Machines, Self::Services, Self::Peers];

    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::Machines => "machines",
            Self::Services => "services",
            Self::Peers => "peers",
        }
    }
}

fn net(bits: u128, length: u8) -> Ipv6Network {
    Ipv6Network::new(Ipv6Addr::from_bits(bits), length).expect("a constant length under 129")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fleet() -> Fleet {
        "fd5a:1c7e:92b4::/48".parse().unwrap()
    }

    fn place(region: u8, pop: u8) -> Place {
        Place { region: RegionCode::new(region).unwrap(), pop }
    }

    #[test]
    fn the_plan_as_it_is_written() {
        let gru = place(3, 1);
        assert_eq!(fleet().subnet(gru).to_string(), "fd5a:1c7e:92b4:3010::/60");
        assert_eq!(fleet().node(gru).to_string(), "fd5a:1c7e:92b4:3010::1");
        assert_eq!(fleet().resolver(gru).to_string(), "fd5a:1c7e:92b4:3010::53");
        let machine = Spot { place: gru, kind: Kind::Machines, id: 7 };
        assert_eq!(fleet().address(machine).to_string(), "fd5a:1c7e:92b4:3011::7");
        assert_eq!(RegionCode::of("sa"), RegionCode::new(3));
        assert_eq!(Fleet::from_random([0x5a, 0x1c, 0x7e, 0x92, 0xb4]), fleet());
    }

    #[test]
    fn what_is_no_fleet_and_no_address_of_it_says_why() {
        let fleets = [
            ("web", "no IPv6 prefix"),
            ("fd5a:1c7e:92b4::", "no IPv6 prefix"),
            ("2001:db8::/48", "fd00::/8"),
            ("fc00:1c7e:92b4::/48", "fd00::/8"),
            ("fd5a:1c7e:92b4::/56", "a fleet has a /48"),
            ("fd5a:1c7e:92b4::1/48", "write fd5a:1c7e:92b4::/48"),
            ("fd00::/48", "not random"),
            ("fd00:0:1::/48", "not random"),
        ];
        for (text, words) in fleets {
            let error = text.parse::<Fleet>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let addresses = [
            ("fd5a:1c7e:92b5::1", "not in the fleet's"),
            ("2001:db8::1", "fd00::/8"),
            ("fd5a:1c7e:92b4:3014::1", "kind 4"),
        ];
        for (text, words) in addresses {
            let error = fleet().explain(address(text).unwrap()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(address("gru1").unwrap_err().to_string().contains("no IPv6 address"));
    }

    proptest! {
        #[test]
        fn an_address_is_explained_as_it_was_made(region in 0u8..16, pop: u8, kind in 0usize..4, id: u64, bits: [u8; 5]) {
            let fleet = Fleet::from_random(bits);
            let spot = Spot { place: place(region, pop), kind: Kind::ALL[kind], id };
            let address = fleet.address(spot);
            prop_assert_eq!(fleet.explain(address), Ok(spot));
            prop_assert!(fleet.subnet(spot.place).contains(address));
            prop_assert!(fleet.prefix().contains(address));
            prop_assert_eq!(Place::from_bits(spot.place.to_bits()), Some(spot.place));
        }

        #[test]
        fn every_address_of_the_fleet_is_explained_or_refused(low: u128) {
            let address = Ipv6Addr::from_bits(fleet().prefix().ip().to_bits() | low >> 48);
            match fleet().explain(address) {
                Ok(spot) => prop_assert_eq!(fleet().address(spot), address),
                Err(error) => prop_assert!(matches!(error, SixpnError::UnknownKind { .. }), "{}", error),
            }
        }

        #[test]
        fn places_do_not_overlap(one in (0u8..16, any::<u8>()), other in (0u8..16, any::<u8>())) {
            let (first, second) = (place(one.0, one.1), place(other.0, other.1));
            let overlap = fleet().subnet(first).contains(fleet().node(second));
            prop_assert_eq!(overlap, first == second);
        }
    }
}
