//! The address plan of the 6PN: which address inside the backhaul belongs to whom, both ways.
//!
//! ```text
//!  0                    8                      48       52        60       64                128
//!  | fd (RFC 4193 §3.1) | 40 random bits       | region | POP     | kind   | id              |
//!  `---------------- the fleet's /48 ----------'                  |
//!  `------------------- a POP's /60: its one entry in AllowedIPs -'
//! ```

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnetwork::Ipv6Network;

mod chance;
#[cfg(test)]
mod tests;

/// The /48 of all POPs of one operator: `fd`, then 40 bits that nobody else has.
///
/// INVARIANT: the upper 16 bits are zero, the next 8 are `fd`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fleet(u64);

/// A region's number: 0 to 15. 0 is the fleet as a whole and no POP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionCode(u8);

/// Where a POP stands in the plan: the 12 bits behind the fleet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub region: RegionCode,
    pub pop: u8,
}

/// What an address is for: the last four bits before its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// 0: edgeProxy itself.
    Infrastructure,
    /// 1: machines behind the POP.
    Machines,
    /// 2: addresses of services that mean something at their POP only.
    Services,
    /// 3: WireGuard peers that are no POP.
    Peers,
}

/// All that an address says beside its fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    pub place: Place,
    pub kind: Kind,
    pub id: u64,
}

/// Why something has no place in the plan. [`SixpnError::hint`] says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SixpnError {
    #[error("`{0}` is no IPv6 prefix")]
    NoPrefix(String),
    #[error("`{0}` is no IPv6 address")]
    NoAddress(String),
    #[error("{0} is no unique local address (ULA)")]
    NotUla(Ipv6Addr),
    #[error("a fleet has a /48, not a /{0}")]
    Length(u8),
    #[error("{0} has host bits")]
    HostBits(Ipv6Network),
    #[error("{0} was not made at random")]
    NotRandom(Ipv6Network),
    #[error("{address} is not inside the fleet's {fleet}")]
    OtherFleet { address: Ipv6Addr, fleet: Fleet },
    #[error("{address} is of kind {kind}, which means nothing yet")]
    UnknownKind { address: Ipv6Addr, kind: u8 },
}

impl Fleet {
    /// Where a POP itself is, among its infrastructure.
    const NODE: u64 = 1;
    /// Where a POP answers DNS, among its infrastructure.
    const RESOLVER: u64 = 0x53;

    /// The fleet of a prefix.
    ///
    /// # Errors
    /// Unless it is a /48 inside fd00::/8 that looks as if it had been made at random.
    pub fn new(prefix: Ipv6Network) -> Result<Self, SixpnError> {
        let bits = prefix.ip().to_bits();
        // RFC 4193 §3.1: fc00::/8, with the L bit clear, is not defined.
        if bits >> 120 != 0xfd {
            return Err(SixpnError::NotUla(prefix.ip()));
        }
        if prefix.prefix() != 48 {
            return Err(SixpnError::Length(prefix.prefix()));
        }
        if prefix.network() != prefix.ip() {
            return Err(SixpnError::HostBits(prefix));
        }
        let fleet = Self((bits >> 80) as u64);
        // RFC 4193 §3.2: two networks that are joined one day must not have chosen the same.
        if chance::is_unlikely(fleet.0 & 0xff_ffff_ffff) {
            return Err(SixpnError::NotRandom(prefix));
        }
        Ok(fleet)
    }

    /// A new fleet from 40 random bits. About one in twenty thousand looks chosen, and [`Fleet::new`] would refuse it.
    #[must_use]
    pub fn from_random(octets: [u8; 5]) -> Self {
        Self(octets.iter().fold(0xfd, |bits, octet| bits << 8 | u64::from(*octet)))
    }

    /// The fleet that an address says it is of.
    ///
    /// # Errors
    /// As for [`Fleet::new`].
    pub fn around(address: Ipv6Addr) -> Result<Self, SixpnError> {
        match address.to_bits() >> 120 {
            0xfd => Self::new(network(address.to_bits() >> 80 << 80, 48)),
            _ => Err(SixpnError::NotUla(address)),
        }
    }

    /// The /48.
    #[must_use]
    pub fn prefix(&self) -> Ipv6Network {
        network(u128::from(self.0) << 80, 48)
    }

    /// A POP's /60.
    #[must_use]
    pub fn subnet(&self, place: Place) -> Ipv6Network {
        network(self.first(place), 60)
    }

    /// A POP's own address.
    #[must_use]
    pub fn node(&self, place: Place) -> Ipv6Addr {
        self.address(Spot { place, kind: Kind::Infrastructure, id: Self::NODE })
    }

    /// Where a POP answers DNS.
    #[must_use]
    pub fn resolver(&self, place: Place) -> Ipv6Addr {
        self.address(Spot { place, kind: Kind::Infrastructure, id: Self::RESOLVER })
    }

    /// The address of a spot; [`Fleet::explain`] is its inverse.
    #[must_use]
    pub fn address(&self, spot: Spot) -> Ipv6Addr {
        let kind = u128::from(spot.kind.number()) << 64;
        Ipv6Addr::from_bits(self.first(spot.place) | kind | u128::from(spot.id))
    }

    /// Whether an address is inside the /48.
    #[must_use]
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        address.to_bits() >> 80 == u128::from(self.0)
    }

    /// The POP whose /60 an address is in, whatever its kind; None outside the /48.
    #[must_use]
    pub fn place(&self, address: Ipv6Addr) -> Option<Place> {
        self.contains(address).then(|| Place::from_number((address.to_bits() >> 68) as u16 & 0xfff))?
    }

    /// What an address is for.
    ///
    /// # Errors
    /// When it is outside the fleet, or of a kind that is not in use.
    pub fn explain(&self, address: Ipv6Addr) -> Result<Spot, SixpnError> {
        let bits = address.to_bits();
        let Some(place) = self.place(address) else {
            return Err(match bits >> 120 {
                0xfd => SixpnError::OtherFleet { address, fleet: *self },
                _ => SixpnError::NotUla(address),
            });
        };
        let number = (bits >> 64) as u8 & 0xf;
        let kind = Kind::ALL.into_iter().find(|kind| kind.number() == number);
        let kind = kind.ok_or(SixpnError::UnknownKind { address, kind: number })?;
        Ok(Spot { place, kind, id: bits as u64 })
    }

    fn first(&self, place: Place) -> u128 {
        u128::from(self.0) << 80 | u128::from(place.number()) << 68
    }
}

fn network(bits: u128, length: u8) -> Ipv6Network {
    Ipv6Network::new(Ipv6Addr::from_bits(bits), length).expect("48 and 60 are lengths of IPv6 prefixes")
}

impl FromStr for Fleet {
    type Err = SixpnError;

    fn from_str(text: &str) -> Result<Self, SixpnError> {
        let prefix = text.parse().ok().filter(|_| text.contains('/'));
        Self::new(prefix.ok_or_else(|| SixpnError::NoPrefix(short(text)))?)
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix().fmt(f)
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fleet({self})")
    }
}

impl RegionCode {
    /// No region: addresses of the fleet as a whole.
    pub const FLEET: Self = Self(0);
    /// The regions that have their code built in.
    pub const KNOWN: [(&'static str, Self); 4] =
        [("eu", Self(1)), ("us", Self(2)), ("sa", Self(3)), ("ap", Self(4))];

    /// None over 15.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (number < 16).then_some(Self(number))
    }

    /// The built-in code of a region.
    #[must_use]
    pub fn of(region: &str) -> Option<Self> {
        Self::KNOWN.into_iter().find(|(name, _)| *name == region).map(|(_, code)| code)
    }

    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The region, if its code is built in.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::KNOWN.into_iter().find(|(_, code)| *code == self).map(|(name, _)| name)
    }
}

impl fmt::Display for RegionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl Place {
    /// The 12 bits: region, then POP. Also how a place is written in two octets.
    #[must_use]
    pub fn number(self) -> u16 {
        u16::from(self.region.0) << 8 | u16::from(self.pop)
    }

    /// From two octets; None for more than 12 bits.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        let [region, pop] = number.to_be_bytes();
        Some(Self { region: RegionCode::new(region)?, pop })
    }
}

impl fmt::Display for Place {
    /// `eu/2`, or `7/2` where the region has no name here.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.pop)
    }
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Infrastructure, Self::Machines, Self::Services, Self::Peers];

    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Infrastructure => 0,
            Self::Machines => 1,
            Self::Services => 2,
            Self::Peers => 3,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Infrastructure => "infrastructure",
            Self::Machines => "machines",
            Self::Services => "services",
            Self::Peers => "peers",
        })
    }
}

/// Reads an address of the plan.
///
/// # Errors
/// When it is anything else.
pub fn address(text: &str) -> Result<Ipv6Addr, SixpnError> {
    text.parse().map_err(|_| SixpnError::NoAddress(short(text)))
}

impl SixpnError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoPrefix(_) => {
                "such as `fd5a:1c7e:92b4::/48`; make your own with `edgeproxy sixpn init`".into()
            }
            Self::NoAddress(_) => "such as `fd5a:1c7e:92b4:1010::1`: without brackets, port or length".into(),
            Self::NotUla(_) => "a ULA is inside fd00::/8, with 40 random bits behind the fd (RFC 4193): \
                make a prefix with `edgeproxy sixpn init`"
                .into(),
            Self::Length(_) => "`edgeproxy sixpn init` prints one".into(),
            Self::HostBits(prefix) => format!("write `{}/{}`", prefix.network(), prefix.prefix()),
            Self::NotRandom(_) => {
                "others will have chosen the same (RFC 4193 §3.2): make one with `edgeproxy sixpn init`"
                    .into()
            }
            Self::OtherFleet { .. } => "it belongs to another fleet".into(),
            Self::UnknownKind { .. } => {
                let kinds = Kind::ALL.map(|kind| format!("{} {kind}", kind.number()));
                format!("the kinds in use: {}", kinds.join(", "))
            }
        }
    }
}

/// Text from outside as it may stand in a message.
fn short(text: &str) -> String {
    text.chars().take(48).flat_map(char::escape_debug).collect()
}
