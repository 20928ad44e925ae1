//! Whose an address is: longest-prefix match over the prefixes of all peers, for what is sent and what is received.

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;

/// Prefixes and their owners, flattened to ranges that do not overlap: a look is one binary search.
///
/// INVARIANT: an address has one owner at most.
#[derive(Debug, Clone, Default)]
pub struct AllowedIps<T> {
    /// First addresses of ranges, ascending; a range ends where the next begins.
    starts: Vec<u128>,
    owners: Vec<Option<T>>,
}

impl<T: Copy + PartialEq> AllowedIps<T> {
    /// Of two owners of the same prefix the later has it, as in WireGuard.
    pub fn new(prefixes: impl IntoIterator<Item = (Ipv6Network, T)>) -> Self {
        let mut prefixes: Vec<_> =
            prefixes.into_iter().map(|(net, owner)| (first(net), net.prefix(), owner)).collect();
        prefixes.sort_by_key(|(first, length, _)| (*first, *length));
        let mut table = Self { starts: Vec::new(), owners: Vec::new() };
        // Prefixes that contain the present point, the longest last, with their last addresses.
        let mut around: Vec<(u128, T)> = Vec::new();
        for (first, length, owner) in prefixes {
            table.leave(&mut around, Some(first));
            table.begin(first, Some(owner));
            around.push((first | u128::MAX.checked_shr(u32::from(length)).unwrap_or(0), owner));
        }
        table.leave(&mut around, None);
        table
    }

    /// The owner of the longest prefix that contains `address`.
    #[must_use]
    pub fn find(&self, address: Ipv6Addr) -> Option<T> {
        let after = self.starts.partition_point(|start| *start <= address.to_bits());
        self.owners.get(after.checked_sub(1)?).copied().flatten()
    }

    /// Prefixes end that do not reach `next`: what is behind them belongs to the one around them.
    fn leave(&mut self, around: &mut Vec<(u128, T)>, next: Option<u128>) {
        while let Some((last, _)) = around.last().copied() {
            if next.is_some_and(|next| next <= last) {
                return;
            }
            around.pop();
            if let Some(behind) = last.checked_add(1) {
                self.begin(behind, around.last().map(|(_, owner)| *owner));
            }
        }
    }

    fn begin(&mut self, start: u128, owner: Option<T>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.owners.pop();
        }
        if self.owners.last().copied().flatten() != owner {
            self.starts.push(start);
            self.owners.push(owner);
        }
    }
}

fn first(net: Ipv6Network) -> u128 {
    net.network().to_bits()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(first: u128, length: u8) -> Ipv6Network {
        Ipv6Network::new(Ipv6Addr::from_bits(first), length).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let text = [("fd00::/48", 1), ("fd00:0:0:10::/60", 2), ("fd00:0:0:18::/64", 3), ("::/0", 0)];
        let table = AllowedIps::new(text.map(|(net, owner)| (net.parse().unwrap(), owner)));
        let found = |address: &str| table.find(address.parse().unwrap());
        assert_eq!(found("fd00::1"), Some(1));
        assert_eq!(found("fd00:0:0:1f:ffff:ffff:ffff:ffff"), Some(2));
        assert_eq!(found("fd00:0:0:18::9"), Some(3));
        assert_eq!(found("fd00:0:0:19::"), Some(2));
        assert_eq!(found("fd00:0:0:20::"), Some(1));
        assert_eq!(found("fd00:0:1::"), Some(0));
        assert_eq!(found("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), Some(0));
        assert_eq!(AllowedIps::<u8>::default().find(Ipv6Addr::LOCALHOST), None);
        let twice = AllowedIps::new([(net(0, 64), 1), (net(0, 64), 2)]);
        assert_eq!(twice.find(Ipv6Addr::LOCALHOST), Some(2));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_look_at_every_prefix(
            prefixes in prop::collection::vec((any::<u8>(), prop_oneof![Just(0u8), 116u8..=128], 0u8..40), 0..40),
            looked in prop::collection::vec(any::<u16>(), 40),
        ) {
            // Few bits, so that they nest and touch.
            let prefixes: Vec<_> = prefixes.iter().map(|(at, length, owner)| {
                (net(u128::from(*at) << 4, *length), *owner)
            }).collect();
            let table = AllowedIps::new(prefixes.iter().copied());
            for address in looked {
                let address = Ipv6Addr::from_bits(u128::from(address % 8192));
                let wanted = prefixes.iter().enumerate().filter(|(_, (net, _))| net.contains(address))
                    .max_by_key(|(at, (net, _))| (net.prefix(), *at)).map(|(_, (_, owner))| *owner);
                prop_assert_eq!(table.find(address), wanted);
            }
        }
    }
}
