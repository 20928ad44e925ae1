//! When each flow opened, when and how it ended, and the questions to that.

use std::collections::BTreeMap;
use std::fmt;

use crate::moment::Moment;

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It lasted its time, every request was echoed, and the other side answered its FIN.
    Completed,
    /// By the other side's close_notify, before its time was over; only over TLS.
    Notified,
    /// By a RST, wherever it was in its life after the handshake.
    Reset,
    /// Its SYN was answered by a RST.
    Refused,
    /// Otherwise, in words.
    Broken(&'static str),
}

/// One entry per flow.
#[derive(Debug, Clone, Default)]
pub struct FlowRecord {
    lives: Vec<Life>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Life {
    opened: Option<Moment>,
    /// When it was due, and when its first request was echoed.
    answered: Option<(Moment, Moment)>,
    ended: Option<(Moment, End)>,
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub opened: usize,
    pub completed: usize,
    pub notified: usize,
    pub reset: usize,
    pub refused: usize,
    /// By how they broke.
    pub broken: BTreeMap<&'static str, usize>,
    /// Opened, and not ended, at its end.
    pub open: usize,
}

impl FlowRecord {
    pub(super) fn new(count: usize) -> Self {
        Self { lives: vec![Life::default(); count] }
    }

    pub(super) fn handle_opened(&mut self, index: usize, at: Moment) {
        if let Some(life) = self.lives.get_mut(index) {
            life.opened = Some(at);
        }
    }

    pub(super) fn handle_answered(&mut self, index: usize, due: Moment, at: Moment) {
        if let Some(life) = self.lives.get_mut(index) {
            life.answered = Some((due, at));
        }
    }

    pub(super) fn handle_end(&mut self, index: usize, at: Moment, end: End) {
        if let Some(life) = self.lives.get_mut(index) {
            life.ended = Some((at, end));
        }
    }

    /// From when each flow was due to its first echo, in milliseconds: a late dial counts as well.
    #[must_use]
    pub fn latencies_ms(&self) -> Vec<f64> {
        let answered = self.lives.iter().filter_map(|life| life.answered);
        answered.map(|(due, at)| at.ms_after(due)).collect()
    }

    /// How many flows there are, begun or not.
    #[must_use]
    pub fn planned(&self) -> usize {
        self.lives.len()
    }

    /// When the last of them ended; None while one goes on.
    #[must_use]
    pub fn last_end(&self) -> Option<Moment> {
        let ends = self.lives.iter().map(|life| life.ended.map(|(at, _)| at));
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Whether every flow has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lives.iter().all(|life| life.ended.is_some())
    }

    /// Counts openings and ends from `since` to before `until`.
    #[must_use]
    pub fn counts(&self, since: Moment, until: Moment) -> Counts {
        let mut counts = Counts::default();
        for life in &self.lives {
            let opened = life.opened.filter(|at| *at < until);
            let ended = life.ended.filter(|(at, _)| *at < until);
            counts.opened += usize::from(opened.is_some_and(|at| at >= since));
            counts.open += usize::from(opened.is_some() && ended.is_none());
            match ended.filter(|(at, _)| *at >= since) {
                None => {}
                Some((_, End::Completed)) => counts.completed += 1,
                Some((_, End::Notified)) => counts.notified += 1,
                Some((_, End::Reset)) => counts.reset += 1,
                Some((_, End::Refused)) => counts.refused += 1,
                Some((_, End::Broken(how))) => *counts.broken.entry(how).or_default() += 1,
            }
        }
        counts
    }
}

impl Counts {
    /// Broken in whatever way.
    #[must_use]
    pub fn all_broken(&self) -> usize {
        self.broken.values().sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, completed, notified, reset, refused, broken, open } = self;
        let all = self.all_broken();
        write!(f, "{opened} opened, {completed} completed, {reset} reset, {refused} refused, {all} broken")?;
        if *notified > 0 {
            write!(f, ", {notified} told to end")?;
        }
        for (how, count) in broken {
            write!(f, " ({count}: {how})")?;
        }
        write!(f, ", {open} open")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_and_ends_are_counted_in_their_stretch() {
        let mut record = FlowRecord::new(6);
        let ends = [End::Completed, End::Reset, End::Refused, End::Broken("it was not echoed")];
        for (index, end) in ends.into_iter().enumerate() {
            if end != End::Refused {
                record.handle_opened(index, Moment(10 + index as u64));
            }
            record.handle_end(index, Moment(20 + index as u64), end);
        }
        record.handle_opened(4, Moment(14));
        record.handle_end(99, Moment(1), End::Reset);
        assert!(!record.is_over() && record.planned() == 6);

        let whole = record.counts(Moment::ZERO, Moment::MAX);
        let words = "4 opened, 1 completed, 1 reset, 1 refused, 1 broken (1: it was not echoed), 1 open";
        assert_eq!(whole.to_string(), words);
        // Opened at 10, 11, 13, 14; ended at 20, 21, 22, 23.
        let counts = |since, until| {
            let counts = record.counts(Moment(since), Moment(until));
            (counts.opened, counts.completed, counts.reset, counts.refused, counts.all_broken(), counts.open)
        };
        assert_eq!(counts(0, 14), (3, 0, 0, 0, 0, 3));
        assert_eq!(counts(11, 21), (3, 1, 0, 0, 0, 3));
        assert_eq!(counts(21, 23), (0, 0, 1, 1, 0, 2));
        assert_eq!(counts(24, 30), (0, 0, 0, 0, 0, 1));
        record.handle_end(4, Moment(30), End::Reset);
        record.handle_end(5, Moment(30), End::Reset);
        assert!(record.is_over());
    }
}
