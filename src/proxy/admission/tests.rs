//! Bounds under floods, races and changes.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const NONE: Limits = Limits { connections: 0, per_source: 0, per_site: 0, rate: 0, burst: 0 };

fn admission() -> Arc<Admission> {
    Arc::default()
}

fn v4(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

/// An address of the `net`th /64 of the /48 `site` of 2001:db8::/32.
fn v6(site: u16, net: u16, host: u64) -> IpAddr {
    let bits = 0x2001_0db8_u128 << 96 | u128::from(site) << 80 | u128::from(net) << 64 | u128::from(host);
    IpAddr::V6(bits.into())
}

/// Sources with something to remember.
fn remembered(admission: &Admission, now_ms: u64) -> usize {
    let Some(sources) = admission.sources.get() else { return 0 };
    let busy = |shard: &Mutex<Shard>| {
        lock(shard).slots.iter().filter(|slot| !slot.is_idle(now_ms * NS_PER_MS)).count()
    };
    sources.shards.iter().map(busy).sum()
}

#[test]
fn without_bounds_all_come_in_and_are_counted() {
    let door = admission();
    let inside: Vec<_> = (0..100).map(|n| door.admit(&NONE, v4(n % 3), 0).unwrap()).collect();
    assert_eq!(door.open(), 100);
    drop(inside);
    assert_eq!(door.open(), 0);
    assert!(door.sources.get().is_none(), "no table without need");
}

#[test]
fn the_listener_is_full() {
    let door = admission();
    let limits = Limits { connections: 2, ..NONE };
    let first = door.admit(&limits, v4(1), 0).unwrap();
    let _second = door.admit(&limits, v4(2), 0).unwrap();
    assert_eq!(door.admit(&limits, v4(3), 0).err(), Some(Refused::ListenerFull));
    drop(first);
    assert!(door.admit(&limits, v4(3), 0).is_ok());
}

#[test]
fn a_source_is_full() {
    let door = admission();
    let limits = Limits { per_source: 2, ..NONE };
    // Two addresses of one /64 are one source.
    let first = door.admit(&limits, v6(1, 1, 1), 0).unwrap();
    let _second = door.admit(&limits, v6(1, 1, 2), 0).unwrap();
    assert_eq!(door.admit(&limits, v6(1, 1, 3), 0).err(), Some(Refused::SourceFull));
    assert_eq!(door.open(), 2, "who is refused is not counted");
    let _neighbour = door.admit(&limits, v6(1, 2, 1), 0).unwrap();
    drop(first);
    let third = door.admit(&limits, v6(1, 1, 3), 0).unwrap();
    // A smaller bound drives nobody out, and lets nobody in.
    let one = Limits { per_source: 1, ..NONE };
    drop(third);
    assert_eq!(door.admit(&one, v6(1, 1, 3), 0).err(), Some(Refused::SourceFull));
}

#[test]
fn a_source_is_too_fast() {
    let door = admission();
    let limits = Limits { rate: 10, burst: 3, ..NONE };
    let taken = |now| (0..20).filter(|_| door.admit(&limits, v4(1), now).is_ok()).count();
    // milliseconds, and how many of 20 come in
    for (now, wanted) in [(5_000, 3), (5_000, 0), (5_099, 0), (5_100, 1), (5_299, 1), (5_300, 1), (9_000, 3)]
    {
        assert_eq!(taken(now), wanted, "{now}");
    }
    assert_eq!(door.admit(&limits, v4(1), 9_000).err(), Some(Refused::SourceTooFast));
    assert!(door.admit(&limits, v4(2), 9_000).is_ok());
    // Without a burst of its own the bound is one second's worth.
    let plain = Limits { rate: 10, ..NONE };
    assert_eq!((0..20).filter(|_| door.admit(&plain, v4(3), 0).is_ok()).count(), 10);
}

#[test]
fn a_fast_rate_is_kept_with_a_slow_clock() {
    let door = admission();
    let limits = Limits { rate: 20_000, burst: 1, ..NONE };
    let taken: usize =
        (0..1_000).map(|now| (0..100).filter(|_| door.admit(&limits, v4(1), now).is_ok()).count()).sum();
    assert!((19_900..=20_100).contains(&taken), "{taken}");
}

#[test]
fn a_site_is_too_fast() {
    let door = admission();
    let limits = Limits { rate: 10, burst: 2, ..NONE };
    // Each of its networks is within its own bound.
    let ends: Vec<_> = (0..100).map(|net| door.admit(&limits, v6(1, net, 1), 0).map(drop)).collect();
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 16);
    assert_eq!(ends[99], Err(Refused::SiteTooFast));
    // Others have nothing to do with that, and what was refused left nothing behind.
    assert!(door.admit(&limits, v6(2, 1, 1), 0).is_ok());
    assert!(door.admit(&limits, v6(1, 99, 1), 30).is_ok());
    assert_eq!(remembered(&door, 0), 16 + 1 + 2 + 1);
}

#[test]
fn a_site_is_full() {
    let door = admission();
    let limits = Limits { per_source: 2, per_site: 5, ..NONE };
    let come = |site, net, host| door.admit(&limits, v6(site, net, host), 0);
    // Each of its networks is within its own bound, and none of them can be used for ever more.
    let mut inside: Vec<_> = (0..5).map(|net| come(1, net, 1).unwrap()).collect();
    assert_eq!(come(1, 9, 1).err(), Some(Refused::SiteFull));
    assert_eq!((door.open(), remembered(&door, 0)), (5, 6), "who is refused leaves nothing behind");
    // Others have nothing to do with that: neither the next site nor IPv4, of which there is no site.
    let other = come(2, 1, 1).unwrap();
    let v4s: Vec<_> = (0..20).map(|n| door.admit(&limits, v4(n), 0).unwrap()).collect();
    // Who leaves makes room for one, in whatever network; whose own network is full hears that.
    inside.pop();
    inside.push(come(1, 0, 2).unwrap());
    assert_eq!(come(1, 0, 3).err(), Some(Refused::SourceFull));
    assert_eq!(come(1, 7, 1).err(), Some(Refused::SiteFull));
    drop((inside, other, v4s));
    assert_eq!((door.open(), remembered(&door, 0)), (0, 0));
    // Without a bound for each source.
    let only = Limits { per_site: 3, ..NONE };
    let inside: Vec<_> = (0..9).filter_map(|host| door.admit(&only, v6(1, 1, host), 0).ok()).collect();
    assert_eq!((inside.len(), remembered(&door, 0)), (3, 1));
    let v4s: Vec<_> = (0..20).map(|_| door.admit(&only, v4(1), 0).unwrap()).collect();
    assert_eq!((v4s.len(), remembered(&door, 0)), (20, 1));
}

#[test]
fn a_site_without_a_bound_is_not_counted_and_a_new_bound_counts_from_then_on() {
    let door = admission();
    let free = Limits { per_source: 2, ..NONE };
    let before: Vec<_> = (0..50).map(|net| door.admit(&free, v6(1, net, 1), 0).unwrap()).collect();
    let bound = Limits { per_site: 2, ..free };
    let after: Vec<_> = (50..60).filter_map(|net| door.admit(&bound, v6(1, net, 1), 0).ok()).collect();
    assert_eq!(after.len(), 2);
    drop(before);
    assert_eq!(door.admit(&bound, v6(1, 70, 1), 0).err(), Some(Refused::SiteFull));
    drop(after);
    assert!(door.admit(&bound, v6(1, 70, 1), 0).is_ok());
}

#[test]
fn one_that_is_too_fast_uses_up_nothing_of_its_site() {
    let door = admission();
    let limits = Limits { rate: 10, burst: 10, ..NONE };
    for _ in 0..10_000 {
        let _ = door.admit(&limits, v6(1, 1, 1), 0);
    }
    let neighbour = (0..20).filter(|_| door.admit(&limits, v6(1, 2, 1), 0).is_ok()).count();
    assert_eq!(neighbour, 10);
}

#[test]
fn a_million_from_one_network_take_one_slot() {
    let door = admission();
    let limits = Limits { per_source: 100, per_site: 800, rate: 50, burst: 50, ..NONE };
    let mut inside = Vec::new();
    for n in 0..1_000_000u64 {
        inside.extend(door.admit(&limits, v6(1, 1, n), n / 100).ok());
    }
    assert_eq!(inside.len(), 100);
    assert!(remembered(&door, 10_000) <= 2);
    assert!((0..1_000).all(|n| door.admit(&limits, v4(n), 10_000).is_ok()));
}

#[test]
fn a_full_table_drives_nobody_out() {
    let door = admission();
    let limits = Limits { per_source: 2, ..NONE };
    let early: Vec<_> = (0..100).map(|n| door.admit(&limits, v4(n), 0).unwrap()).collect();
    // An attacker with more networks than the table has slots holds as many connections as it is given.
    let mut held = Vec::new();
    for site in 0..4 {
        for net in 0..=u16::MAX {
            held.extend(door.admit(&limits, v6(0x100 + site, net, 1), 0).ok());
        }
    }
    let room = SLOTS + SHARDS * WIDE;
    assert!(remembered(&door, 0) <= room);
    // Who was there before is bounded as before, and keeps what it has.
    for n in 0..100 {
        let second = door.admit(&limits, v4(n), 0).unwrap();
        assert_eq!(door.admit(&limits, v4(n), 0).err(), Some(Refused::SourceFull), "{n}");
        drop(second);
    }
    // Newcomers share with their neighbours, not with the attacker.
    let newcomers: Vec<_> =
        (0..1_000u32).map(|n| door.admit(&limits, v4(0x0a00_0000 + (n << 16)), 0)).collect();
    let refused = newcomers.iter().filter(|it| it.is_err()).count();
    assert!(refused < 20, "{refused} of 1,000");
    drop((early, held, newcomers));
    assert_eq!((door.open(), remembered(&door, 0)), (0, 0));
}

#[test]
fn workers_hold_the_bounds_together() {
    let door = admission();
    let limits = Limits { connections: 30, per_source: 7, ..NONE };
    let race = |n: u32| {
        let door = Arc::clone(&door);
        std::thread::spawn(move || {
            (0..50).filter_map(|_| door.admit(&limits, v4(n % 3), 0).ok()).collect::<Vec<_>>()
        })
    };
    let workers: Vec<_> = (0..9).map(race).collect();
    let inside: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    assert_eq!((inside.len(), door.open()), (21, 21));
    drop(inside);
    assert_eq!((door.open(), remembered(&door, 0)), (0, 0));
}

proptest! {
    /// Any order of coming and going: the bounds hold, what is free can be had, and nothing is left over.
    #[test]
    fn bounds_hold_and_places_come_back(
        connections in 0..12u32, per_source in 0..4u32,
        steps in prop::collection::vec((0..5u32, any::<bool>(), any::<prop::sample::Index>()), 1..120),
    ) {
        let door = admission();
        let limits = Limits { connections, per_source, ..NONE };
        let mut inside: Vec<(u32, Admitted)> = Vec::new();
        for (n, comes, which) in steps {
            if !comes {
                if !inside.is_empty() {
                    drop(inside.swap_remove(which.index(inside.len())));
                }
                continue;
            }
            let own = inside.iter().filter(|(source, _)| *source == n).count() as u32;
            let full = connections != 0 && inside.len() as u32 >= connections;
            let wanted = if full {
                Some(Refused::ListenerFull)
            } else {
                (per_source != 0 && own >= per_source).then_some(Refused::SourceFull)
            };
            let end = door.admit(&limits, v4(n), 0);
            prop_assert_eq!(end.as_ref().err().copied(), wanted);
            inside.extend(end.ok().map(|it| (n, it)));
            prop_assert_eq!(door.open() as usize, inside.len());
        }
        drop(inside);
        prop_assert_eq!((door.open(), remembered(&door, 0)), (0, 0));
    }

    /// The same of IPv6, whose sources have sites around them.
    #[test]
    fn bounds_of_sites_hold_and_places_come_back(
        per_source in 0..4u32, per_site in 0..6u32,
        steps in prop::collection::vec((0..3u16, 0..3u16, any::<bool>(), any::<prop::sample::Index>()), 1..120),
    ) {
        let door = admission();
        let limits = Limits { per_source, per_site, ..NONE };
        let mut inside: Vec<((u16, u16), Admitted)> = Vec::new();
        for (site, net, comes, which) in steps {
            if !comes {
                if !inside.is_empty() {
                    drop(inside.swap_remove(which.index(inside.len())));
                }
                continue;
            }
            let own = inside.iter().filter(|(it, _)| *it == (site, net)).count() as u32;
            let all = inside.iter().filter(|(it, _)| it.0 == site).count() as u32;
            let wanted = if per_source != 0 && own >= per_source {
                Some(Refused::SourceFull)
            } else {
                (per_site != 0 && all >= per_site).then_some(Refused::SiteFull)
            };
            let end = door.admit(&limits, v6(site, net, 1), 0);
            prop_assert_eq!(end.as_ref().err().copied(), wanted);
            inside.extend(end.ok().map(|it| ((site, net), it)));
        }
        drop(inside);
        prop_assert_eq!((door.open(), remembered(&door, 0)), (0, 0));
    }

    /// In any stretch of time no source is given more than its burst and its rate.
    #[test]
    fn the_rate_holds_in_every_stretch(
        rate in 1..50u32, burst in 1..20u32,
        arrivals in prop::collection::vec((0..3u32, 0..80u64), 1..300),
    ) {
        let door = admission();
        let limits = Limits { rate, burst, ..NONE };
        let (mut now, mut taken): (u64, HashMap<u32, Vec<u64>>) = (0, HashMap::new());
        for (n, passes) in arrivals {
            now += passes;
            if door.admit(&limits, v4(n), now).is_ok() {
                taken.entry(n).or_default().push(now);
            }
        }
        for times in taken.values() {
            for (first, from) in times.iter().enumerate() {
                for (last, to) in times.iter().enumerate().skip(first) {
                    let most = f64::from(burst) + (to - from) as f64 * f64::from(rate) / 1_000.0;
                    prop_assert!((last - first + 1) as f64 <= most + 1e-3);
                }
            }
        }
    }
}
