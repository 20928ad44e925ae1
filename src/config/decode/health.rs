//! Reads the `health` section.

use std::time::Duration;

use crate::config::health::Health;
use crate::config::read::Spot;

pub(super) fn decode(spot: &Spot<'_>) -> Option<Health> {
    let mut fields = spot.fields()?;
    let default = Health::default();
    let max_concurrent = fields.get("max_concurrent").and_then(|spot| spot.number(1..=4096));
    let age = Duration::from_millis(100)..=Duration::from_secs(600);
    let max_age = fields.get("max_age").and_then(|spot| spot.duration(age));
    fields.close(&[]);
    Some(Health {
        max_concurrent: max_concurrent.unwrap_or(default.max_concurrent),
        max_age: max_age.unwrap_or(default.max_age),
    })
}
