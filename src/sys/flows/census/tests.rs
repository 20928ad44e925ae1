//! Looks in virtual time.

use std::time::Duration;

use super::super::Stage;
use super::super::wire::tests::flow;
use super::*;

fn look(open: &[u16], ended: &[u16]) -> Look {
    let mut look = Look::default();
    open.iter().for_each(|port| look.add(flow(*port, Stage::Open)));
    ended.iter().for_each(|port| look.add(flow(*port, Stage::Ended)));
    look
}

/// Open, ended, seconds since the look before; how many are open, and new each second.
type Row = (&'static [u16], &'static [u16], u64, usize, Option<f64>);

#[test]
fn new_flows_are_those_not_seen_at_the_look_before() {
    let mut now = Instant::now();
    let mut census = Census::default();
    let rows: [Row; 8] = [
        (&[1, 2, 3], &[], 1, 3, None),
        (&[3, 1, 2], &[], 1, 3, Some(0.0)),
        (&[2, 3, 4, 5], &[1], 2, 4, Some(1.0)),
        // Lived and ended between two looks.
        (&[], &[2, 3, 4, 5, 6], 1, 0, Some(1.0)),
        (&[], &[], 1, 0, Some(0.0)),
        // Forgotten meanwhile: new again.
        (&[6], &[], 1, 1, Some(1.0)),
        (&[7, 8], &[], 0, 2, None),
        (&[7, 8, 9], &[], 10, 3, Some(0.1)),
    ];
    for (open, ended, seconds, still_open, rate) in rows {
        now += Duration::from_secs(seconds);
        let traffic = census.handle_look(&look(open, ended), now);
        assert_eq!(traffic, Traffic { open: still_open, new_per_second: rate }, "{open:?} {ended:?}");
    }
}

#[test]
fn a_clock_that_goes_back_gives_no_rate() {
    let now = Instant::now();
    let mut census = Census::default();
    census.handle_look(&look(&[1], &[]), now + Duration::from_secs(1));
    assert_eq!(census.handle_look(&look(&[2], &[]), now).new_per_second, None);
}

#[test]
fn flows_past_the_bound_are_counted_by_their_growth() {
    let now = Instant::now();
    let mut census = Census::default();
    let mut many = look(&[1, 2], &[]);
    many.open = 2_000_000;
    census.handle_look(&many, now);
    // The kept ones are others, because the kernel tells in no order.
    let mut more = look(&[3, 4], &[]);
    more.open = 2_000_100;
    let second = Duration::from_secs(1);
    let traffic = census.handle_look(&more, now + second);
    assert_eq!(traffic, Traffic { open: 2_000_100, new_per_second: Some(100.0) });
    assert_eq!(census.handle_look(&many, now + 2 * second).new_per_second, Some(0.0));
}
