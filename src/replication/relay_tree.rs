//! Whom to tell what was just written: everybody in the own region, and in each other region a few, who tell theirs.
//!
//! So an update needs two hops, crosses each ocean three times and not a thousand, and comes to every POP from up to
//! three sides: a relay that is dead, and not known to be, costs no time. Should all of a region's relays be dead, the
//! relays of another region have told one more POP there. Whoever knows an update already tells nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::version::Origin;

/// A fleet of so few POPs has no relays: its origins tell everybody.
const DIRECT: usize = 48;
/// In each other region.
const RELAYS: usize = 3;

/// Where a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub region: Arc<str>,
}

/// One that is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub to: Origin,
    /// It shall tell others.
    pub spread: bool,
}

/// Whom to tell of an update of `origin`: as the origin itself, or as one who was asked to spread it. `members`: those
/// that can be told, without ourselves.
#[must_use]
pub fn targets<'a>(
    origin: &Origin,
    version: u64,
    me: (&Origin, &str),
    members: impl Iterator<Item = (&'a Origin, &'a Place)>,
) -> Vec<Target> {
    let (own, home) = me;
    let mut regions: BTreeMap<&str, Vec<&Origin>> = BTreeMap::new();
    let mut count = 0;
    for (name, place) in members.filter(|(name, _)| *name != origin && *name != own) {
        regions.entry(&place.region).or_default().push(name);
        count += 1;
    }
    let mut near = regions.remove(home).unwrap_or_default();
    let told = |spread: bool| move |to: &Origin| Target { to: to.clone(), spread };
    if origin != own {
        // The origin has told the other relays itself, if it sees the same ones.
        near.push(own);
        let mut relays = line(origin, version, &near);
        relays.truncate(RELAYS);
        let is_relay = relays.contains(&own);
        near.retain(|name| *name != own && !(is_relay && relays.contains(name)));
    }
    let mut targets: Vec<Target> = near.into_iter().map(told(false)).collect();
    if origin != own {
        // The next region, from here around the alphabet, in case all of its own relays are dead.
        let next = regions.range(home..).next().or_else(|| regions.first_key_value());
        if let Some((_, far)) = next {
            let line = line(origin, version, far);
            let spare = line.get(RELAYS..).unwrap_or_default();
            let which = rank(own, version) as usize % spare.len().clamp(1, RELAYS);
            targets.extend(spare.get(which).copied().map(told(true)));
        }
        return targets;
    }
    for far in regions.values() {
        if count <= DIRECT {
            targets.extend(far.iter().copied().map(told(false)));
        } else {
            targets.extend(line(origin, version, far).into_iter().take(RELAYS).map(told(true)));
        }
    }
    targets
}

/// The members of a region in the order in which they are relays of this update: another one for each origin, and now
/// and then, so that the work is shared.
fn line<'a>(origin: &Origin, version: u64, members: &[&'a Origin]) -> Vec<&'a Origin> {
    let salt = rank(origin, version / 64);
    let mut line: Vec<(u64, &Origin)> = members.iter().map(|name| (rank(name, salt), *name)).collect();
    // Only the first of them matter.
    let first = (2 * RELAYS).min(line.len());
    if first < line.len() {
        line.select_nth_unstable(first);
        line.truncate(first);
    }
    line.sort_unstable();
    line.into_iter().map(|(_, name)| name).collect()
}

/// FNV-1a, stirred: no secret depends on it.
fn rank(name: &Origin, salt: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ salt;
    for octet in name.as_str().bytes() {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::{BTreeSet, BinaryHeap};

    use super::*;

    fn fleet(regions: u32, each: u32) -> BTreeMap<Origin, Place> {
        let member = |(region, pop): (u32, u32)| {
            let place = Place { region: format!("r{region:02}").into() };
            (Origin::new(&format!("p{region}x{pop}")).unwrap(), place)
        };
        (0..regions).flat_map(|region| (0..each).map(move |pop| (region, pop))).map(member).collect()
    }

    /// Who is told, hop by hop.
    fn spread(
        fleet: &BTreeMap<Origin, Place>,
        origin: &Origin,
        dead: &BTreeSet<Origin>,
    ) -> (BTreeSet<Origin>, usize) {
        let (mut known, mut messages) = (BTreeSet::new(), 0);
        let mut work = BinaryHeap::from([Reverse((0, origin.clone(), true))]);
        while let Some(Reverse((at, to, spread))) = work.pop() {
            if dead.contains(&to) || !known.insert(to.clone()) || !spread {
                continue;
            }
            let home = &fleet[&to].region;
            for target in targets(origin, 7, (&to, home), fleet.iter()) {
                messages += 1;
                // Other regions are far.
                let takes = if fleet[&target.to].region == *home { 2 } else { 80 };
                work.push(Reverse((at + takes, target.to, target.spread)));
            }
        }
        (known, messages)
    }

    #[test]
    fn a_small_fleet_is_told_directly() {
        let fleet = fleet(4, 10);
        let origin = Origin::new("p1x1").unwrap();
        let told = targets(&origin, 1, (&origin, "r01"), fleet.iter());
        assert_eq!((told.len(), told.iter().any(|target| target.spread)), (39, false));
    }

    #[test]
    fn a_large_one_is_told_by_relays_and_nobody_is_left_out() {
        let fleet = fleet(40, 25);
        let origin = Origin::new("p7x3").unwrap();
        let (known, messages) = spread(&fleet, &origin, &BTreeSet::new());
        assert_eq!(known.len(), 1_000);
        assert!(messages < 2_900, "{messages}");
        assert_eq!(targets(&origin, 1, (&origin, "r07"), fleet.iter()).len(), 24 + 39 * 3);
    }

    #[test]
    fn a_region_whose_relays_are_all_dead_hears_of_it_from_another() {
        let fleet = fleet(40, 25);
        let origin = Origin::new("p7x3").unwrap();
        let first = targets(&origin, 7, (&origin, "r07"), fleet.iter());
        let dead: BTreeSet<Origin> = first
            .into_iter()
            .filter(|target| target.spread && &*fleet[&target.to].region == "r11")
            .map(|target| target.to)
            .collect();
        assert_eq!(dead.len(), 3);
        assert_eq!(spread(&fleet, &origin, &dead).0.len(), 997);
    }

    #[test]
    fn the_work_of_relays_is_shared() {
        let fleet = fleet(3, 30);
        let mut relays = BTreeSet::new();
        for (origin, place) in &fleet {
            let told = targets(origin, 1, (origin, &place.region), fleet.iter());
            relays.extend(told.into_iter().filter(|target| target.spread).map(|target| target.to));
        }
        assert!(relays.len() > 75, "{} of 90", relays.len());
    }
}
