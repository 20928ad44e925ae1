//! Reads path attributes wherever an operator may choose them.

use crate::config::bgp::{Attributes, Community, LargeCommunity};
use crate::config::read::{Spot, Unique, meant, shown, whole};

const MOST_COMMUNITIES: usize = 32;

/// Names of RFC 1997 and RFC 8326 that an operator may use instead of the number.
const WELL_KNOWN: [(&str, Community); 3] = [
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
];

pub(super) fn decode(spot: &Spot<'_>) -> Option<Attributes> {
    let mut fields = spot.fields()?;
    let prepend = fields.get("prepend").and_then(|spot| spot.number(0..=16));
    let med = fields.get("med").and_then(|spot| spot.number(0..=u64::from(u32::MAX)));
    let communities = fields.get("communities").and_then(|spot| set(&spot, community));
    let large = fields.get("large_communities").and_then(|spot| set(&spot, large_community));
    fields.close(&[]);
    Some(Attributes {
        prepend: prepend.unwrap_or_default(),
        med,
        communities: communities.unwrap_or_default(),
        large_communities: large.unwrap_or_default(),
    })
}

/// A list as a sorted set; a repeat is a slip of the pen and refused.
fn set<T: Ord + ToString>(spot: &Spot<'_>, one: fn(&Spot<'_>) -> Option<T>) -> Option<Vec<T>> {
    let mut unique = Unique::default();
    let mut values = Vec::new();
    for spot in spot.list(MOST_COMMUNITIES)? {
        if let Some(value) = one(&spot)
            && unique.claim(&spot, &value.to_string())
        {
            values.push(value);
        }
    }
    values.sort_unstable();
    Some(values)
}

fn community(spot: &Spot<'_>) -> Option<Community> {
    let text = spot.text()?;
    let named = WELL_KNOWN.iter().find(|(name, _)| *name == text).map(|&(_, community)| community);
    let community =
        if text == "blackhole" { Some(Community::BLACKHOLE) } else { named.or_else(|| pair(text)) };
    match community {
        // RFC 7999 §3.2: it asks the neighbor to discard what is sent to the prefix.
        Some(Community::BLACKHOLE) => {
            spot.refuse("BLACKHOLE would make the neighbor drop the prefix's traffic", "use `state: down`");
            None
        }
        Some(community) => Some(community),
        None => {
            let names = WELL_KNOWN.map(|(name, _)| name);
            let hint = if text.split(':').count() == 3 {
                "three numbers are a large community: `large_communities`".to_owned()
            } else if text.contains(':') {
                "both numbers are 0 to 65535; larger ones need `large_communities`".to_owned()
            } else {
                meant(text, &names)
            };
            spot.refuse(format!("expected `asn:value` or a name, found {}", shown(text)), hint);
            None
        }
    }
}

/// RFC 1997: two numbers of two octets.
fn pair(text: &str) -> Option<Community> {
    let (high, low) = text.split_once(':')?;
    let half = |text| whole(text).and_then(|number| u16::try_from(number).ok());
    Some(Community(u32::from(half(high)?) << 16 | u32::from(half(low)?)))
}

/// RFC 8092: three numbers of four octets.
fn large_community(spot: &Spot<'_>) -> Option<LargeCommunity> {
    let text = spot.text()?;
    let parts: Option<Vec<u32>> =
        text.split(':').map(|part| whole(part).and_then(|number| u32::try_from(number).ok())).collect();
    if let Some(&[global, first, second]) = parts.as_deref() {
        return Some(LargeCommunity(global, first, second));
    }
    let hint = "three numbers of 0 to 4294967295";
    spot.refuse(format!("expected `asn:value:value`, found {}", shown(text)), hint);
    None
}
