//! Counting what a neighbor announces, without keeping it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use ipnetwork::IpNetwork;

use super::message::Routes;

/// Counters of one session, and the distinct prefixes when they are limited.
///
/// Distinct prefixes are remembered by a keyed 64-bit hash: 9 to 18 octets each, never more of them
/// than the limit, and no neighbor can choose prefixes that collide.
#[derive(Debug)]
pub struct Received {
    pub announced: u64,
    pub withdrawn: u64,
    pub treated_as_withdraw: u64,
    limit: Option<u32>,
    distinct: HashSet<u64>,
    key: RandomState,
}

/// The neighbor announced more distinct prefixes than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverLimit(pub u32);

impl Received {
    /// Nothing received; `limit` is the most distinct prefixes over all families.
    #[must_use]
    pub fn new(limit: Option<u32>) -> Self {
        Self {
            announced: 0,
            withdrawn: 0,
            treated_as_withdraw: 0,
            limit,
            distinct: HashSet::new(),
            key: RandomState::new(),
        }
    }

    /// Counts an UPDATE.
    ///
    /// # Errors
    /// [`OverLimit`] at the first prefix over the limit.
    pub fn count(&mut self, routes: &Routes) -> Result<(), OverLimit> {
        self.announced += routes.announced.len() as u64;
        self.withdrawn += routes.withdrawn.len() as u64;
        self.treated_as_withdraw += u64::from(routes.treated_as_withdraw.is_some());
        let Some(limit) = self.limit else { return Ok(()) };
        for prefix in &routes.withdrawn {
            self.distinct.remove(&self.hash(prefix));
        }
        for prefix in &routes.announced {
            self.distinct.insert(self.hash(prefix));
            if self.distinct.len() > limit as usize {
                return Err(OverLimit(limit));
            }
        }
        Ok(())
    }

    fn hash(&self, prefix: &IpNetwork) -> u64 {
        self.key.hash_one(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(announced: &[&str], withdrawn: &[&str]) -> Routes {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Routes { announced: parse(announced), withdrawn: parse(withdrawn), treated_as_withdraw: None }
    }

    #[test]
    fn only_distinct_prefixes_count_against_the_limit() {
        let mut received = Received::new(Some(2));
        for _ in 0..5 {
            assert_eq!(received.count(&routes(&["10.0.0.0/8", "2001:db8::/32"], &[])), Ok(()));
        }
        assert_eq!(received.count(&routes(&["10.1.0.0/16"], &["10.0.0.0/8"])), Ok(()));
        assert_eq!(received.count(&routes(&["10.2.0.0/16"], &[])), Err(OverLimit(2)));
        assert_eq!(received.announced, 12);
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut received = Received::new(None);
        assert_eq!(received.count(&routes(&["10.0.0.0/8"], &[])), Ok(()));
        assert!(received.distinct.is_empty());
    }
}
