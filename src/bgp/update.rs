//! What a route says to one neighbor, and how changes are packed into UPDATEs.

use std::net::IpAddr;

use bytes::Bytes;

use super::adj_rib_out::Change;
use super::message::{self, PathAttributes};
use super::origin::{Preference, Route};
use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::{Asn, Attributes, Family, NextHop};

/// Prefixes in one UPDATE: with the longest attributes that the configuration allows (four sets of
/// communities, and the path once more for a neighbor of two-octet AS numbers: under 2,700 octets) and the longest prefixes (17 octets) it stays under 4096 octets.
const MOST_IN_ONE_UPDATE: usize = 80;

/// LOCAL_PREF of our routes inside our own AS: the usual default, and lower where prepends do not reach.
/// RFC 8326 §4.2 asks for 0 while draining.
fn local_pref(preference: Preference) -> u32 {
    match preference {
        Preference::Normal => 100,
        Preference::Degraded => 50,
        Preference::Draining => 0,
    }
}

/// How routes are told to one neighbor in one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    pub local_asn: Asn,
    pub remote_asn: Asn,
    /// Our address of the session: the next hop "self".
    pub local_address: IpAddr,
    pub next_hop: NextHop,
    /// The neighbor's own additions: always, on a brown-out, while draining.
    pub export: Attributes,
    pub degrade: Attributes,
    pub drain: Attributes,
}

impl Export {
    /// The path attributes of a route for this neighbor, or None when no next hop of its family
    /// is known (the configuration refuses that, but a session's address is only known now).
    #[must_use]
    pub fn render(&self, prefix: AnycastPrefix, route: &Route) -> Option<PathAttributes> {
        let next_hop = match prefix.family() {
            Family::Ipv4 => self.next_hop.ipv4.map(IpAddr::V4),
            Family::Ipv6 => self.next_hop.ipv6.map(IpAddr::V6),
        };
        let next_hop = next_hop
            .or_else(|| (Family::of(self.local_address) == prefix.family()).then_some(self.local_address))?;
        let internal = self.local_asn == self.remote_asn;
        // From the widest choice to the nearest: of the prefix, of this neighbor, and both again for
        // what is to be avoided at the moment.
        let layers: &[&Attributes] = match route.preference {
            Preference::Normal => &[&route.attributes, &self.export],
            Preference::Degraded => &[&route.attributes, &self.export, &route.added, &self.degrade],
            Preference::Draining => &[&route.attributes, &self.export, &route.added, &self.drain],
        };
        let in_front = 1 + layers.iter().map(|layer| usize::from(layer.prepend)).sum::<usize>();
        Some(PathAttributes {
            next_hop,
            // RFC 4271 §5.1.2: inside the AS the path of an originated route is empty.
            as_path: if internal { Vec::new() } else { vec![self.local_asn.0; in_front] },
            local_pref: internal.then(|| local_pref(route.preference)),
            med: layers.iter().rev().find_map(|layer| layer.med),
            communities: union(layers.iter().map(|layer| &layer.communities)),
            large_communities: union(layers.iter().map(|layer| &layer.large_communities)),
        })
    }
}

/// All of them once, sorted: the order in which RFC 1997 and RFC 8092 sets are sent is free.
fn union<'a, T: Ord + Copy + 'a>(sets: impl Iterator<Item = &'a Vec<T>>) -> Vec<T> {
    let mut all: Vec<T> = sets.flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The UPDATEs for a change.
pub fn pack(change: &Change, four_octet_as: bool) -> impl Iterator<Item = Bytes> {
    let (prefixes, attributes) = match change {
        Change::Withdraw(prefixes) => (prefixes, None),
        Change::Announce(attributes, prefixes) => (prefixes, Some(attributes)),
    };
    prefixes.chunks(MOST_IN_ONE_UPDATE).map(move |part| match attributes {
        None => message::withdraw(part),
        Some(attributes) => message::announce(part, attributes, four_octet_as),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::bgp::{Community, LargeCommunity};

    fn prefix(text: &str) -> AnycastPrefix {
        AnycastPrefix::new(text.parse().unwrap()).unwrap()
    }

    fn export(remote: u32) -> Export {
        Export {
            local_asn: Asn(64512),
            remote_asn: Asn(remote),
            local_address: "192.0.2.10".parse().unwrap(),
            next_hop: NextHop { ipv4: None, ipv6: Some("2001:db8::10".parse().unwrap()) },
            export: Attributes { prepend: 1, med: Some(5), ..Attributes::default() },
            degrade: Attributes { communities: vec![Community(70)], ..Attributes::default() },
            drain: Attributes { med: Some(2000), ..Attributes::default() },
        }
    }

    #[test]
    fn next_hop_is_self_or_given() {
        let route = Route::default();
        let v4 = export(64500).render(prefix("198.51.100.0/24"), &route).unwrap();
        assert_eq!(v4.next_hop.to_string(), "192.0.2.10");
        let v6 = export(64500).render(prefix("2001:db8:1::/48"), &route).unwrap();
        assert_eq!(v6.next_hop.to_string(), "2001:db8::10");
        let mut none = export(64500);
        none.next_hop.ipv6 = None;
        assert_eq!(none.render(prefix("2001:db8:1::/48"), &route), None);
    }

    #[test]
    fn prepends_add_up_and_the_neighbors_med_wins() {
        let attributes = Attributes { prepend: 2, med: Some(100), ..Attributes::default() };
        let route = Route { attributes, ..Route::default() };
        let attributes = export(64500).render(prefix("198.51.100.0/24"), &route).unwrap();
        assert_eq!(attributes.as_path, vec![64512; 4]);
        assert_eq!(attributes.med, Some(5));
        assert_eq!(attributes.local_pref, None);
    }

    #[test]
    fn each_step_adds_its_own_and_the_nearest_med_wins() {
        let with = |preference, med| Route {
            preference,
            attributes: Attributes { med: Some(10), ..Attributes::default() },
            added: Attributes { prepend: 3, med, ..Attributes::default() },
        };
        let told = |preference, med| {
            let told = export(64500).render(prefix("198.51.100.0/24"), &with(preference, med)).unwrap();
            (told.as_path.len(), told.med, told.communities.len())
        };
        assert_eq!(told(Preference::Normal, Some(500)), (2, Some(5), 0));
        assert_eq!(told(Preference::Degraded, None), (5, Some(5), 1));
        assert_eq!(told(Preference::Degraded, Some(500)), (5, Some(500), 1));
        assert_eq!(told(Preference::Draining, Some(500)), (5, Some(2000), 0));
    }

    #[test]
    fn inside_the_as_the_path_is_empty() {
        let attributes = export(64512).render(prefix("198.51.100.0/24"), &Route::default()).unwrap();
        assert!(attributes.as_path.is_empty());
        assert_eq!(attributes.local_pref, Some(100));
        let leaving = Route { preference: Preference::Draining, ..Route::default() };
        let attributes = export(64512).render(prefix("198.51.100.0/24"), &leaving).unwrap();
        assert_eq!(attributes.local_pref, Some(0));
    }

    #[test]
    fn the_largest_update_fits_a_message() {
        let prefixes: Vec<_> =
            (0..500u32).map(|n| prefix(&format!("2001:db8:{:x}::{:x}/128", n % 7, n + 1))).collect();
        let attributes = PathAttributes {
            next_hop: "2001:db8::1".parse().unwrap(),
            as_path: vec![4_200_000_000; 65],
            local_pref: Some(100),
            med: Some(1),
            communities: (0..129).map(Community).collect(),
            large_communities: (0..128).map(|n| LargeCommunity(n, n, n)).collect(),
        };
        let change = Change::Announce(attributes, prefixes);
        for four_octet_as in [true, false] {
            let lengths: Vec<_> = pack(&change, four_octet_as).map(|message| message.len()).collect();
            assert!(lengths.iter().all(|length| *length <= message::MAX_MESSAGE), "{lengths:?}");
            assert_eq!(lengths.len(), 7);
        }
    }
}
