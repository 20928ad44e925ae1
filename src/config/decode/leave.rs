//! Reads how a prefix leaves and comes back: the ladder of a drain, and damping.

use std::time::Duration;

use super::attributes;
use crate::config::anycast::{Damping, Drain};
use crate::config::read::Spot;

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn drain(spot: &Spot<'_>) -> Option<Drain> {
    let default = Drain::default();
    let mut fields = spot.fields()?;
    let attributes = fields.get("attributes").and_then(|spot| attributes::decode(&spot));
    let deadline = fields.get("deadline").and_then(|spot| spot.duration(Duration::from_secs(1)..=DAY));
    let new_flows = fields.get("new_flows").and_then(|spot| spot.number(0..=1_000_000));
    let open_flows = fields.get("open_flows").and_then(|spot| spot.number(0..=1_000_000));
    let minutes = Duration::ZERO..=Duration::from_secs(600);
    let quiet_for = fields.get("quiet_for").and_then(|spot| spot.duration(minutes));
    let hour = Duration::ZERO..=Duration::from_secs(3600);
    let linger = fields.get("linger").and_then(|spot| spot.duration(hour));
    fields.close(&[]);
    Some(Drain {
        attributes: attributes.unwrap_or_default(),
        deadline: deadline.unwrap_or(default.deadline),
        new_flows: new_flows.unwrap_or(default.new_flows),
        open_flows: open_flows.unwrap_or(default.open_flows),
        quiet_for: quiet_for.unwrap_or(default.quiet_for),
        linger: linger.unwrap_or(default.linger),
    })
}

/// `off`, or its bounds.
pub(super) fn damping(spot: &Spot<'_>) -> Option<Damping> {
    if !spot.is_map() && !spot.is_list() {
        if spot.text()? != "off" {
            spot.refuse(
                "expected `off`, or its bounds",
                "`off`, or `{ min_up: 1s, max_dwell: 5m, decay: 10m }`",
            );
        }
        return None;
    }
    let default = Damping::default();
    let mut fields = spot.fields()?;
    let hour = Duration::from_millis(10)..=Duration::from_secs(3600);
    let min_up = fields.get("min_up").and_then(|spot| spot.duration(hour)).unwrap_or(default.min_up);
    let at = fields.get("max_dwell");
    let max_dwell = at.as_ref().and_then(|spot| spot.duration(Duration::from_millis(10)..=DAY));
    let decay = fields.get("decay").and_then(|spot| spot.duration(Duration::from_secs(1)..=DAY));
    fields.close(&[]);
    if let (Some(spot), Some(max_dwell)) = (at, max_dwell)
        && max_dwell < min_up
    {
        let hint = format!("{min_up:?}, which is `min_up`, or more");
        spot.refuse("the longest dwell is shorter than the first", hint);
    }
    Some(Damping {
        min_up,
        max_dwell: max_dwell.unwrap_or(default.max_dwell).max(min_up),
        decay: decay.unwrap_or(default.decay),
    })
}
