//! The status documents of prefixes: what an operator reads of a judgement.

use std::time::Instant;

use super::decide::Announcement;
use super::drain::{Ladder, Step};
use super::lease::LeaseFact;
use crate::config::anycast::{Anycast, AnycastPrefix};
use crate::observe::status::{DampingStatus, DrainStatus, LeaseStatus, PrefixStatus};
use crate::supervise::lease::Board;

/// The judgement itself, without addresses and history.
pub(super) fn announcement(
    prefix: AnycastPrefix,
    anycast: &Anycast,
    announcement: &Announcement,
    now: Instant,
) -> PrefixStatus {
    PrefixStatus {
        prefix: prefix.to_string(),
        state: announcement.state.name().to_owned(),
        reason: announcement.reason.name().to_owned(),
        why: announcement.reason.sentence(),
        change: announcement.reason.change(),
        since_ms: millis(announcement.since, now),
        cause: None,
        addresses: Vec::new(),
        services: anycast.services.clone(),
        drain: None,
        damping: None,
        lease: None,
    }
}

/// The ladder of a drain.
pub(super) fn drain(ladder: &Ladder, now: Instant) -> DrainStatus {
    let order = ladder.order();
    let flows = ladder.fresh(now);
    DrainStatus {
        step: ladder.step().name().to_owned(),
        words: order.reason.clone(),
        begun_ms: millis(order.begun, now),
        step_ms: millis(ladder.since(), now),
        deadline_ms: (ladder.step() != Step::Closed).then(|| millis(now, order.deadline)),
        open_flows: flows.map(|flows| flows.open),
        new_flows_per_second: flows.map(|flows| flows.new_per_second),
    }
}

/// What failures still weigh; None without any.
pub(super) fn damping(anycast: &Anycast, announcement: &Announcement, now: Instant) -> Option<DampingStatus> {
    let (strikes, dwell) = announcement.damper().dwell(anycast.damping.as_ref()?, now)?;
    Some(DampingStatus {
        failures: strikes,
        dwell_ms: dwell.as_millis() as u64,
        left_ms: announcement.next.map(|until| millis(now, until)),
    })
}

/// What the data path proves; None where the proxy serves nothing.
pub(super) fn lease(fact: &LeaseFact, board: &Board, now: Instant) -> Option<LeaseStatus> {
    let oldest = board.read(now).oldest;
    Some(LeaseStatus {
        state: fact.name()?.to_owned(),
        oldest_ms: oldest.map(|(_, age)| age.as_millis() as u64),
        lease_ms: board.lease().as_millis() as u64,
        what: fact.what().map(str::to_owned),
    })
}

fn millis(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_millis() as u64
}
