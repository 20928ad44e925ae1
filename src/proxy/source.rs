//! Who counts as one source, and as one network.

use std::net::IpAddr;

/// A source or a network of sources, as tables are keyed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// One IPv4 address.
    V4(u32),
    /// An IPv6 /64: whoever has one address of it has them all.
    Net64(u64),
    /// An IPv6 /48, what one customer is given at most (RFC 6177 §2).
    Net48(u64),
    /// An IPv4 /16 or an IPv6 /32, about one network operator.
    Wide(bool, u32),
}

impl Source {
    /// The source that an address belongs to.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::Net64((address.to_bits() >> 64) as u64),
        }
    }

    /// The /48 around a /64.
    #[must_use]
    pub fn net48(self) -> Option<Self> {
        match self {
            Self::Net64(net) => Some(Self::Net48(net >> 16)),
            Self::V4(_) | Self::Net48(_) | Self::Wide(..) => None,
        }
    }

    /// The widest network around it.
    #[must_use]
    pub fn wide(self) -> Self {
        match self {
            Self::V4(address) => Self::Wide(false, address >> 16),
            Self::Net64(net) => Self::Wide(true, (net >> 32) as u32),
            Self::Net48(net) => Self::Wide(true, (net >> 16) as u32),
            Self::Wide(..) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        // two addresses; whether they are one source, one /48, one wide network
        let table = [
            ("192.0.2.1", "192.0.2.1", true, true, true),
            ("192.0.2.1", "192.0.2.2", false, true, true),
            ("192.0.2.1", "192.1.2.1", false, true, false),
            ("192.0.2.1", "::ffff:192.0.2.1", true, true, true),
            ("2001:db8:1:1::1", "2001:db8:1:1:ffff::", true, true, true),
            ("2001:db8:1:1::1", "2001:db8:1:2::1", false, true, true),
            ("2001:db8:1:1::1", "2001:db8:2:1::1", false, false, true),
            ("2001:db8:1:1::1", "2001:db9:1:1::1", false, false, false),
            ("0.0.0.0", "::", false, false, false),
        ];
        for (a, b, source, net, wide) in table {
            assert_eq!(of(a) == of(b), source, "{a} {b}");
            assert_eq!(of(a).net48() == of(b).net48(), net, "{a} {b}");
            assert_eq!(of(a).wide() == of(b).wide(), wide, "{a} {b}");
        }
        assert_eq!(of("2001:db8:1:1::1").net48().map(Source::wide), Some(of("2001:db8:1:1::1").wide()));
    }
}
