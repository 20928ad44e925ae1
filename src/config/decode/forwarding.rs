//! Reads how the proxy takes clients of a service to its backends.

use std::time::Duration;

use crate::config::read::{Fields, Spot};
use crate::config::services::{Ejection, Forwarding, SendProxy, Timeouts};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const TENTH: Duration = Duration::from_millis(100);
const HEADERS: [(&str, SendProxy); 3] =
    [("off", SendProxy::Off), ("v1", SendProxy::V1), ("v2", SendProxy::V2)];

/// Takes its words out of those of the service; `udp` is whether any of its listeners carries that.
pub(super) fn decode(fields: &mut Fields<'_>, udp: bool) -> Forwarding {
    let default = Forwarding::default();
    let affinity = fields.get("affinity");
    let affinity = affinity.and_then(|spot| spot.duration_or_off(Duration::from_secs(1)..=DAY));
    let slow_start = fields.get("slow_start").and_then(|spot| spot.duration(Duration::ZERO..=HOUR));
    let panic = fields.get("panic").and_then(|spot| spot.percent());
    let send_proxy = fields.get("send_proxy").and_then(|spot| {
        let header = spot.choice(&HEADERS)?;
        if udp && header == SendProxy::V1 {
            spot.refuse("version 1 of the PROXY header cannot carry UDP", "`send_proxy: v2`, or `off`");
        }
        Some(header)
    });
    let timeouts = fields.get("timeouts").and_then(|spot| timeouts(&spot));
    let attempts = fields.get("attempts").and_then(|spot| spot.number(1..=16));
    let retry_budget = fields.get("retry_budget").and_then(|spot| spot.percent());
    let ejection = match fields.get("ejection") {
        Some(spot) if spot.is_off() => None,
        Some(spot) => ejection(&spot),
        None => default.ejection,
    };
    Forwarding {
        affinity: affinity.filter(|affinity| !affinity.is_zero()),
        slow_start: slow_start.unwrap_or(default.slow_start),
        panic: panic.unwrap_or(default.panic),
        send_proxy: send_proxy.unwrap_or(default.send_proxy),
        timeouts: timeouts.unwrap_or(default.timeouts),
        attempts: attempts.unwrap_or(default.attempts),
        retry_budget: retry_budget.unwrap_or(default.retry_budget),
        ejection,
    }
}

fn timeouts(spot: &Spot<'_>) -> Option<Timeouts> {
    let default = Timeouts::default();
    let mut fields = spot.fields()?;
    let attempt = Duration::from_millis(1)..=Duration::from_secs(60);
    let connect_at = fields.get("connect");
    let connect = connect_at.as_ref().and_then(|spot| spot.duration(attempt)).unwrap_or(default.connect);
    let deadline_at = fields.get("deadline");
    let attempts = Duration::from_millis(1)..=Duration::from_secs(600);
    // Who only says how long one attempt takes should not have to count.
    let least = default.deadline.max(connect);
    let deadline = deadline_at.as_ref().and_then(|spot| spot.duration(attempts)).unwrap_or(least);
    if let Some(spot) = deadline_at.filter(|_| deadline < connect) {
        let hint = format!("{connect:?}, which is `connect`, or more");
        spot.refuse("all attempts together have less time than one", hint);
    }
    let opening = Duration::from_millis(10)..=Duration::from_secs(300);
    let handshake = fields.get("handshake").and_then(|spot| spot.duration(opening));
    let week = TENTH..=DAY * 7;
    let idle = fields.get("idle").and_then(|spot| spot.duration_or_off(week));
    let udp_idle = fields.get("udp_idle").and_then(|spot| spot.duration(TENTH..=HOUR));
    let half_closed = fields.get("half_closed").and_then(|spot| spot.duration(TENTH..=DAY));
    fields.close(&[]);
    Some(Timeouts {
        connect,
        deadline,
        handshake: handshake.unwrap_or(default.handshake),
        idle: idle.unwrap_or(default.idle),
        udp_idle: udp_idle.unwrap_or(default.udp_idle),
        half_closed: half_closed.unwrap_or(default.half_closed),
    })
}

fn ejection(spot: &Spot<'_>) -> Option<Ejection> {
    let default = Ejection::default();
    if !spot.is_map() {
        spot.refuse(
            "expected `off`, or its bounds",
            "`off`, or `{ failures: 5, time: 10s, max_time: 300s, share: 50% }`",
        );
        return None;
    }
    let mut fields = spot.fields()?;
    let failures = fields.get("failures").and_then(|spot| spot.number(1..=1_000));
    let time = fields.get("time").and_then(|spot| spot.duration(TENTH..=HOUR)).unwrap_or(default.time);
    let longest_at = fields.get("max_time");
    let longest = longest_at.as_ref().and_then(|spot| spot.duration(TENTH..=DAY));
    if let (Some(spot), Some(longest)) = (longest_at, longest)
        && longest < time
    {
        spot.refuse(
            "the longest ejection is shorter than the first",
            format!("{time:?}, which is `time`, or more"),
        );
    }
    let share = fields.get("share").and_then(|spot| spot.percent());
    fields.close(&[]);
    Some(Ejection {
        failures: failures.unwrap_or(default.failures),
        time,
        max_time: longest.unwrap_or(default.max_time).max(time),
        share: share.unwrap_or(default.share),
    })
}
