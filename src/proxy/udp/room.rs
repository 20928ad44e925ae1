//! How many flows a door takes, over all workers: at once, and from one source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::datagrams::Reason;
use crate::config::listen::Limits;
use crate::proxy::plan::Standing;

/// Flows of each source. Touched when a flow begins and when it ends, never for a datagram.
#[derive(Debug, Default)]
pub struct Crowd(Mutex<HashMap<IpAddr, u32>>);

/// A flow's seat; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    standing: Arc<Standing>,
    /// The source, if it is counted.
    source: Option<IpAddr>,
}

/// Takes a seat for a flow, if the bounds of the door leave one (0: no bound).
///
/// # Errors
/// [`Reason::Limited`] or [`Reason::Crowded`].
pub(super) fn enter(standing: &Arc<Standing>, limits: &Limits, client: IpAddr) -> Result<Seat, Reason> {
    let most = if limits.connections == 0 { u32::MAX } else { limits.connections };
    // The check and the act are one: other workers take seats here too.
    let taken = standing
        .open
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < most).then(|| open + 1));
    taken.map_err(|_| Reason::Limited)?;
    // From here on dropping the seat gives it back.
    let mut seat = Seat { standing: Arc::clone(standing), source: None };
    if limits.per_source > 0 {
        let source = source(client);
        // A count is one word: whoever died while it held this left nothing half done.
        let mut crowd = standing.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = crowd.entry(source).or_insert(0);
        if *count < limits.per_source {
            *count += 1;
            seat.source = Some(source);
        }
        drop(crowd);
        if seat.source.is_none() {
            return Err(Reason::Crowded);
        }
    }
    Ok(seat)
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.standing.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(source) = &self.source {
            let mut crowd = self.standing.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Who has nothing here takes no memory here.
            if let Some(count) = crowd.get_mut(source) {
                *count -= 1;
                if *count == 0 {
                    crowd.remove(source);
                }
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 of an IPv6 one.
fn source(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn limits(connections: u32, per_source: u32) -> Limits {
        Limits { connections, per_source, ..Limits::default() }
    }

    #[test]
    fn sources_are_addresses_and_networks() {
        let standing = Arc::default();
        let enter = |client: &str| enter(&standing, &limits(0, 1), client.parse().unwrap());
        let table = [
            ("192.0.2.1", true),
            ("192.0.2.1", false),
            ("192.0.2.2", true),
            ("2001:db8::1", true),
            ("2001:db8::ffff:0:0:1", false),
            ("2001:db8:0:1::1", true),
        ];
        let mut held = Vec::new();
        for (client, is_in) in table {
            let seat = enter(client);
            assert_eq!(seat.is_ok(), is_in, "{client}");
            assert!(is_in || matches!(seat, Err(Reason::Crowded)));
            held.extend(seat);
        }
        assert_eq!(standing.open.load(Ordering::Relaxed), 4);
        held.clear();
        assert_eq!(standing.open.load(Ordering::Relaxed), 0);
        assert!(standing.crowd.0.lock().unwrap().is_empty());
    }

    #[test]
    fn racers_never_get_more_seats_than_there_are() {
        let standing: Arc<Standing> = Arc::default();
        let race = || {
            let client = IpAddr::from([192, 0, 2, 1]);
            (0..500).filter_map(|_| enter(&standing, &limits(100, 90), client).ok()).collect::<Vec<_>>()
        };
        let held: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(race)).collect();
            racers.into_iter().flat_map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!((held.len(), standing.open.load(Ordering::Relaxed)), (90, 90));
    }

    proptest! {
        #[test]
        fn bounds_hold_and_everything_is_given_back(
            most in 0u32..8, per_source in 0u32..4,
            acts in proptest::collection::vec((any::<bool>(), 0u8..6, any::<prop::sample::Index>()), 0..100),
        ) {
            let standing: Arc<Standing> = Arc::default();
            let mut held: Vec<(u8, Seat)> = Vec::new();
            for (comes, who, which) in acts {
                if !comes {
                    if !held.is_empty() {
                        held.swap_remove(which.index(held.len()));
                    }
                    continue;
                }
                let of_source = held.iter().filter(|seat| seat.0 == who).count() as u32;
                let wanted = match held.len() as u32 {
                    all if most > 0 && all >= most => Some(Reason::Limited),
                    _ if per_source > 0 && of_source >= per_source => Some(Reason::Crowded),
                    _ => None,
                };
                let seat = enter(&standing, &limits(most, per_source), [192, 0, 2, who].into());
                prop_assert_eq!(seat.as_ref().err().copied(), wanted);
                held.extend(seat.map(|seat| (who, seat)));
                prop_assert_eq!(standing.open.load(Ordering::Relaxed) as usize, held.len());
            }
            let sources: BTreeMap<_, _> = held.iter().map(|seat| (seat.0, ())).collect();
            let counted = standing.crowd.0.lock().unwrap().len();
            prop_assert_eq!(counted, if per_source == 0 { 0 } else { sources.len() });
        }
    }
}
