//! Reads the `pop` section.

use crate::config::pop::Pop;
use crate::config::read::{Letters, Spot};

pub(super) fn decode(spot: &Spot<'_>) -> Option<Pop> {
    let mut fields = spot.fields()?;
    let id = fields.need("id").and_then(|spot| spot.name(Letters::Label, 1..=32));
    let region = fields.need("region").and_then(|spot| region(&spot));
    let location = fields.get("location").and_then(|spot| location(&spot));
    fields.close(&[]);
    Some(Pop { id: id?, region: region?, location })
}

/// A region's code.
pub(super) fn region(spot: &Spot<'_>) -> Option<String> {
    spot.name(Letters::Plain, 2..=8)
}

fn location(spot: &Spot<'_>) -> Option<(f64, f64)> {
    let list = spot.list(2)?;
    let [latitude, longitude] = list.as_slice() else {
        spot.refuse("expected latitude and longitude", "`[-23.4, -46.5]`, in degrees");
        return None;
    };
    let (latitude, longitude) = (latitude.decimal(-90.0..=90.0), longitude.decimal(-180.0..=180.0));
    Some((latitude?, longitude?))
}
