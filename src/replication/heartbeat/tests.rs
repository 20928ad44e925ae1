//! Heartbeats of a few POPs in virtual time: what each knows of the others, and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::packet::{Packet, packets};
use super::*;
use crate::catalog::stance::Failure;

fn origin(name: &str) -> Origin {
    Origin::new(name).unwrap()
}

fn stances(revision: u64, of: &[(&str, Stance)]) -> Arc<Stances> {
    let of = of.iter().map(|(prefix, stance)| (prefix.parse().unwrap(), stance.clone())).collect();
    Arc::new(Stances { revision, of })
}

/// Two ends of a connection; what is lost is decided by `lost`, by direction.
struct Pair {
    now: Instant,
    ends: [(Origin, Heartbeats); 2],
}

impl Pair {
    fn new(first: Arc<Stances>, second: Arc<Stances>) -> Self {
        let now = Instant::now();
        let (a, b) = (origin("a"), origin("b"));
        let mut ends = [(a.clone(), Heartbeats::new(first, now)), (b.clone(), Heartbeats::new(second, now))];
        ends[0].1.handle_connected(&b, now);
        ends[1].1.handle_connected(&a, now);
        Self { now, ends }
    }

    fn carry(&mut self, lost: [bool; 2]) {
        for _ in 0..10 {
            for (from, lost) in lost.into_iter().enumerate() {
                let name = self.ends[from].0.clone();
                self.ends[from].1.handle_timeout(self.now);
                while let Some((_, octets)) = self.ends[from].1.poll_transmit() {
                    if !lost {
                        self.ends[1 - from].1.handle_datagram(&name, &octets, self.now).unwrap();
                    }
                }
            }
            self.now += Duration::from_millis(3);
        }
    }

    fn heard(&mut self, end: usize) -> HeardOf {
        let own = self.ends[end].0.clone();
        let heard = loop {
            match self.ends[end].1.poll_heard(&own, 1, self.now) {
                Some(heard) => break heard,
                None => self.now += Duration::from_millis(10),
            }
        };
        heard.pops[&*self.ends[1 - end].0.name()].clone()
    }
}

#[test]
fn each_knows_how_the_other_stands_and_what_it_knows() {
    let mut pair = Pair::new(
        stances(1, &[("198.51.100.0/24", Stance::Announced)]),
        stances(4, &[("2001:db8::/48", Stance::Draining)]),
    );
    pair.carry([false, false]);
    let (first, second) = (pair.heard(0), pair.heard(1));
    assert_eq!((first.revision, second.revision), (1, 4));
    assert_eq!(first.of[&"2001:db8::/48".parse().unwrap()], Stance::Draining);
    assert_eq!(second.of[&"198.51.100.0/24".parse().unwrap()], Stance::Announced);
    assert!(first.counts(pair.now) && first.may_count(pair.now));
}

#[test]
fn what_changes_is_answered_without_waiting_for_the_next_round() {
    let mut pair = Pair::new(stances(1, &[("198.51.100.0/24", Stance::Announced)]), stances(1, &[]));
    pair.carry([false, false]);
    let failure = Failure::new("below-watermark web", pair.now);
    let now = pair.now;
    pair.ends[0].1.handle_own(stances(2, &[("198.51.100.0/24", Stance::Held(failure))]), now);
    pair.carry([false, false]);
    assert_eq!(pair.heard(0).revision, 2);
    let heard = pair.heard(1);
    assert_eq!(
        heard.of[&"198.51.100.0/24".parse().unwrap()].failure().unwrap().what.as_ref(),
        "below-watermark web"
    );
}

#[test]
fn whoever_is_heard_and_does_not_hear_us_is_not_counted_on() {
    let mut pair = Pair::new(stances(1, &[]), stances(1, &[]));
    pair.carry([false, false]);
    for _ in 0..20 {
        pair.now += Duration::from_millis(100);
        pair.carry([true, false]);
    }
    let now = pair.now;
    // The first hears the second, which does not hear it.
    assert!(!pair.heard(0).counts(now));
    assert!(pair.heard(0).may_count(now));
    assert!(!pair.heard(1).counts(now));
}

#[test]
fn a_new_connection_begins_anew() {
    let mut pair = Pair::new(stances(7, &[]), stances(9, &[("198.51.100.0/24", Stance::Announced)]));
    pair.carry([false, false]);
    let now = pair.now;
    let name = pair.ends[1].0.clone();
    pair.ends[0].1.handle_connected(&name, now);
    let own = pair.ends[0].0.clone();
    let heard = pair.ends[0].1.poll_heard(&own, 1, now).unwrap();
    assert!(heard.pops.is_empty());
    // What is under way from before is not of this connection; that the driver sees to.
    pair.carry([false, false]);
    assert_eq!(pair.heard(0).revision, 7);
}

proptest! {
    #[test]
    fn what_is_packed_is_read_whatever_its_length(
        of in prop::collection::btree_map(0u32..5000, 0u8..5, 0..1024),
        words in "[a-z ]{0,96}",
    ) {
        let now = Instant::now();
        let failure = Failure::new(&words, now);
        let stance = |kind| match kind {
            0 => Stance::Withdrawn,
            1 => Stance::Announced,
            2 => Stance::Draining,
            3 => Stance::Held(failure.clone()),
            _ => Stance::Failed(failure.clone()),
        };
        let prefix = |number: u32| -> IpNetwork {
            if number.is_multiple_of(2) {
                format!("10.{}.{}.0/24", number >> 8, number & 255).parse().unwrap()
            } else {
                format!("2001:db8:{number:x}::/{}", if number.is_multiple_of(3) { 48 } else { 128 }).parse().unwrap()
            }
        };
        let of: BTreeMap<_, _> = of.into_iter().map(|(number, kind)| (prefix(number), stance(kind))).collect();
        let own = Stances { revision: 3, of: of.clone() };
        let mut read = BTreeMap::new();
        let packets = packets(&own, 1, 2, 3, now);
        for (part, octets) in packets.iter().enumerate() {
            prop_assert!(octets.len() <= 1_100);
            let packet = Packet::read(octets, now).unwrap();
            prop_assert_eq!((usize::from(packet.part), usize::from(packet.parts)), (part, packets.len()));
            read.extend(packet.of);
        }
        prop_assert_eq!(read, of);
    }

    #[test]
    fn garbage_is_refused_or_means_something(mut octets in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(first) = octets.first_mut() {
            *first = KIND;
        }
        let _ = Packet::read(&octets, Instant::now());
    }
}
