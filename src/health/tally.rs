//! The healthy weight of one service, its position, and what is to blame for it.

use std::time::Instant;

use super::check::CheckId;
use super::verdict::Standing;
use super::watermark::{Levels, Position};
use super::{Cause, ServiceHealth};
use crate::config::services::{Backend, Watermark};
use crate::observe::journal::CauseId;

/// The sums of one service, and what follows from them.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    levels: Levels,
    healthy: u32,
    total: u32,
    unjudged: u32,
    position: Position,
    since: Instant,
    /// Whether the service came up and has not been low since: what `Between` leaves as it was.
    serving: bool,
    blamed: Option<(CheckId, Cause)>,
    changed_by: Option<CauseId>,
}

/// What one backend adds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    weight: u32,
    /// Counts while it is healthy, and is not missed otherwise.
    is_extra: bool,
}

impl From<&Backend> for Part {
    fn from(backend: &Backend) -> Self {
        Self { weight: backend.weight, is_extra: backend.is_from_fleet() }
    }
}

impl Tally {
    /// A service of which nothing is counted yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            levels: Levels { low: 0, high: 1, degrade: None },
            healthy: 0,
            total: 0,
            unjudged: 0,
            position: Position::Low,
            since: now,
            serving: false,
            blamed: None,
            changed_by: None,
        }
    }

    /// Counts a service anew, by its backends' standings; keeps its history.
    pub(super) fn handle_plan(
        &mut self,
        watermark: &Watermark,
        backends: impl Iterator<Item = (Part, Standing)>,
        now: Instant,
    ) {
        (self.healthy, self.total, self.unjudged) = (0, 0, 0);
        for (part, standing) in backends {
            if standing.healthy {
                self.healthy = self.healthy.saturating_add(part.weight);
            }
            // Shares are of what the configuration names: who joins the fleet does not move the marks.
            if !part.is_extra {
                self.total = self.total.saturating_add(part.weight);
                self.unjudged += u32::from(!standing.judged);
            }
        }
        self.levels = Levels::of(watermark, self.total);
        if self.settle(now) != Moved::No {
            // Not a verdict, but the configuration has moved it.
            self.changed_by = None;
        }
    }

    /// Takes one backend's change of standing, which is known as `id`. Says whether the position changed,
    /// and how.
    pub(super) fn handle_standing(
        &mut self,
        part: Part,
        before: Standing,
        after: Standing,
        id: CauseId,
        now: Instant,
    ) -> Moved {
        self.changed_by = Some(id);
        match (before.healthy, after.healthy) {
            (false, true) => self.healthy = self.healthy.saturating_add(part.weight),
            (true, false) => self.healthy = self.healthy.saturating_sub(part.weight),
            _ => {}
        }
        match (before.judged, after.judged) {
            _ if part.is_extra => {}
            (false, true) => self.unjudged = self.unjudged.saturating_sub(1),
            (true, false) => self.unjudged += 1,
            _ => {}
        }
        self.settle(now)
    }

    /// Blames a backend for the position.
    pub(super) fn blame(&mut self, check: CheckId, cause: Cause) {
        if self.position != Position::Full {
            self.blamed = Some((check, cause));
        }
    }

    /// Takes the blame back.
    pub(super) fn forgive(&mut self) {
        self.blamed = None;
    }

    pub(super) fn blamed(&self) -> Option<CheckId> {
        self.blamed.as_ref().map(|(check, _)| *check)
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn levels(&self) -> Levels {
        self.levels
    }

    pub(super) fn health(&self) -> ServiceHealth {
        ServiceHealth {
            position: self.position,
            healthy_weight: self.healthy,
            total_weight: self.total,
            proven: self.unjudged == 0 || self.position != Position::Low,
            serving: self.serving,
            cause: self.blamed.as_ref().map(|(_, cause)| cause.clone()),
            since: self.since,
            changed_by: self.changed_by,
        }
    }

    /// The word in status documents; between the watermarks it is as before.
    pub(super) fn word(&self) -> &'static str {
        match self.position {
            Position::Full => "up",
            Position::BrownOut => "degraded",
            Position::Between if self.serving => "up",
            Position::Between | Position::Low => "down",
        }
    }

    fn settle(&mut self, now: Instant) -> Moved {
        let position = self.levels.position(self.healthy);
        match position {
            Position::Low => self.serving = false,
            Position::BrownOut | Position::Full => self.serving = true,
            Position::Between => {}
        }
        if position == Position::Full {
            self.blamed = None;
        }
        let moved = match position.cmp(&self.position) {
            std::cmp::Ordering::Less => Moved::Worse,
            std::cmp::Ordering::Equal => return Moved::No,
            std::cmp::Ordering::Greater => Moved::Better,
        };
        self.position = position;
        self.since = now;
        moved
    }
}

/// How a position changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    No,
    Better,
    Worse,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::services::Level;
    use crate::observe::journal::CauseIds;

    const PART: Part = Part { weight: 2, is_extra: false };
    const UNPROVEN: Standing = Standing { healthy: false, judged: false };
    const UP: Standing = Standing { healthy: true, judged: true };
    const DOWN: Standing = Standing { healthy: false, judged: true };

    #[test]
    fn between_the_watermarks_is_as_before() {
        let now = Instant::now();
        let mut ids = CauseIds::new(1, 0);
        let mut tally = Tally::new(now);
        let watermark = Watermark { low: Level::Weight(2), high: Level::Weight(6), degrade: None };
        tally.handle_plan(&watermark, [(PART, UNPROVEN); 4].into_iter(), now);
        assert_eq!((tally.word(), tally.health().proven, tally.health().total_weight), ("down", false, 8));
        tally.handle_standing(PART, UNPROVEN, UP, ids.next_id(), now);
        assert_eq!((tally.word(), tally.health().proven), ("down", false));
        tally.handle_standing(PART, UNPROVEN, UP, ids.next_id(), now);
        assert_eq!(
            (tally.position(), tally.word(), tally.health().proven),
            (Position::Between, "down", true)
        );
        assert_eq!(tally.handle_standing(PART, UNPROVEN, UP, ids.next_id(), now), Moved::Better);
        assert_eq!((tally.position(), tally.word()), (Position::Full, "up"));
        let later = now + Duration::from_secs(1);
        assert_eq!(tally.handle_standing(PART, UP, DOWN, ids.next_id(), later), Moved::Worse);
        assert_eq!((tally.position(), tally.word(), tally.health().since), (Position::Between, "up", later));
        tally.handle_standing(PART, UP, DOWN, ids.next_id(), later);
        assert_eq!((tally.position(), tally.word(), tally.health().proven), (Position::Low, "down", false));
        tally.handle_standing(PART, UNPROVEN, DOWN, ids.next_id(), later);
        assert!(tally.health().proven, "every backend has had a verdict");
    }

    #[test]
    fn what_the_fleet_adds_moves_no_mark_and_is_not_missed() {
        let now = Instant::now();
        let mut ids = CauseIds::new(1, 0);
        let mut tally = Tally::new(now);
        let watermark =
            Watermark { low: Level::Weight(1), high: Level::Percent(50), degrade: Some(Level::Percent(100)) };
        let extra = Part { weight: 100, is_extra: true };
        let parts = [(PART, UP), (PART, UP), (extra, UNPROVEN)];
        tally.handle_plan(&watermark, parts.into_iter(), now);
        assert_eq!((tally.position(), tally.health().total_weight), (Position::Full, 4));
        tally.handle_standing(PART, UP, DOWN, ids.next_id(), now);
        tally.handle_standing(PART, UP, DOWN, ids.next_id(), now);
        assert_eq!((tally.position(), tally.health().proven), (Position::Low, true));
        tally.handle_standing(extra, UNPROVEN, UP, ids.next_id(), now);
        assert_eq!((tally.position(), tally.health().healthy_weight), (Position::Full, 100));
    }
}
