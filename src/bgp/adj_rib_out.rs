//! What one neighbor has been sent, and the difference to what is wanted (RFC 4271 §3.2).
//!
//! The whole wanted set comes in and the smallest set of changes goes out: no deltas are taken, so
//! none can be lost, and a slow neighbor has no backlog, only a bigger difference later.

use std::collections::BTreeMap;
use std::time::Instant;

use super::message::PathAttributes;
use crate::config::anycast::AnycastPrefix;
use crate::config::bgp::Family;

/// One change: prefixes of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Withdraw(Vec<AnycastPrefix>),
    Announce(PathAttributes, Vec<AnycastPrefix>),
}

/// A route as the neighbor has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub attributes: PathAttributes,
    pub at: Instant,
    /// The neighbor asked for it again.
    again: bool,
}

/// The routes of one session.
#[derive(Debug, Default)]
pub struct AdjRibOut(BTreeMap<AnycastPrefix, Sent>);

impl AdjRibOut {
    /// Brings the neighbor from what it was sent to `wanted` and returns the changes: withdrawals
    /// first, then announcements grouped by attributes. What did not change is in none of them.
    pub fn sync(&mut self, wanted: &BTreeMap<AnycastPrefix, PathAttributes>, now: Instant) -> Vec<Change> {
        let gone: Vec<_> = self.0.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        let mut changes = Vec::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            let part: Vec<_> = gone.iter().filter(|prefix| prefix.family() == family).copied().collect();
            if !part.is_empty() {
                changes.push(Change::Withdraw(part));
            }
        }
        for prefix in gone {
            self.0.remove(&prefix);
        }
        let mut groups: Vec<(Family, PathAttributes, Vec<AnycastPrefix>)> = Vec::new();
        for (prefix, attributes) in wanted {
            if self.0.get(prefix).is_some_and(|sent| sent.attributes == *attributes && !sent.again) {
                continue;
            }
            self.0.insert(*prefix, Sent { attributes: attributes.clone(), at: now, again: false });
            let family = prefix.family();
            match groups.iter_mut().find(|(f, a, _)| *f == family && a == attributes) {
                Some((_, _, prefixes)) => prefixes.push(*prefix),
                None => groups.push((family, attributes.clone(), vec![*prefix])),
            }
        }
        changes.extend(
            groups.into_iter().map(|(_, attributes, prefixes)| Change::Announce(attributes, prefixes)),
        );
        changes
    }

    /// The next [`sync`](Self::sync) sends a family again (RFC 2918 §4). Nothing is forgotten: what is
    /// no longer wanted by then must still be withdrawn.
    pub fn refresh(&mut self, family: Family) {
        for (_, sent) in self.0.iter_mut().filter(|(prefix, _)| prefix.family() == family) {
            sent.again = true;
        }
    }

    /// Forgets everything: the session is gone and its routes with it.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The routes as the neighbor has them.
    pub fn routes(&self) -> impl Iterator<Item = (&AnycastPrefix, &Sent)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attributes(med: u32) -> PathAttributes {
        PathAttributes {
            next_hop: "192.0.2.1".parse().unwrap(),
            as_path: vec![64512],
            local_pref: None,
            med: Some(med),
            communities: Vec::new(),
            large_communities: Vec::new(),
        }
    }

    fn prefix(n: u8) -> AnycastPrefix {
        let text = if n.is_multiple_of(2) { format!("10.0.{n}.0/24") } else { format!("2001:db8:{n}::/48") };
        AnycastPrefix::new(text.parse().unwrap()).unwrap()
    }

    type Table = BTreeMap<AnycastPrefix, PathAttributes>;

    fn table() -> impl Strategy<Value = Table> {
        proptest::collection::btree_map(0u8..8, 0u32..3, 0..8)
            .prop_map(|routes| routes.into_iter().map(|(n, med)| (prefix(n), attributes(med))).collect())
    }

    proptest! {
        /// A neighbor that applies the changes has exactly what is wanted, each prefix is touched
        /// at most once, and one that did not change is not touched.
        #[test]
        fn changes_lead_to_what_is_wanted(tables in proptest::collection::vec(table(), 1..6)) {
            let now = Instant::now();
            let mut rib = AdjRibOut::default();
            let mut neighbor = Table::new();
            for wanted in tables {
                let before = neighbor.clone();
                let mut touched = Vec::new();
                for change in rib.sync(&wanted, now) {
                    match change {
                        Change::Withdraw(prefixes) => for p in prefixes {
                            prop_assert!(neighbor.remove(&p).is_some(), "withdrawn but never announced");
                            touched.push(p);
                        },
                        Change::Announce(a, prefixes) => {
                            prop_assert!(prefixes.windows(2).all(|w| w[0].family() == w[1].family()));
                            for p in prefixes { neighbor.insert(p, a.clone()); touched.push(p); }
                        }
                    }
                }
                prop_assert_eq!(&neighbor, &wanted);
                for p in &touched {
                    prop_assert!(before.get(p) != wanted.get(p), "unchanged, but sent again");
                    prop_assert_eq!(touched.iter().filter(|q| *q == p).count(), 1);
                }
                prop_assert!(rib.sync(&wanted, now).is_empty());
            }
        }
    }

    #[test]
    fn a_refresh_sends_one_family_again() {
        let now = Instant::now();
        let wanted: Table = [(prefix(0), attributes(1)), (prefix(1), attributes(1))].into();
        let mut rib = AdjRibOut::default();
        rib.sync(&wanted, now);
        rib.refresh(Family::Ipv6);
        assert_eq!(rib.sync(&wanted, now), vec![Change::Announce(attributes(1), vec![prefix(1)])]);
        assert!(rib.sync(&wanted, now).is_empty());
    }

    #[test]
    fn a_refresh_does_not_forget_what_must_be_withdrawn() {
        let now = Instant::now();
        let mut rib = AdjRibOut::default();
        rib.sync(&[(prefix(0), attributes(1))].into(), now);
        rib.refresh(Family::Ipv4);
        assert_eq!(rib.sync(&Table::new(), now), vec![Change::Withdraw(vec![prefix(0)])]);
    }
}
