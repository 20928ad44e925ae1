//! Stretches of time, and what several of them have in common.

use std::time::Duration;

use crate::moment::Moment;

/// A stretch of time `[from, until)`; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub from: Moment,
    pub until: Moment,
}

impl Span {
    #[must_use]
    pub fn length(self) -> Duration {
        self.until.since(self.from)
    }
}

/// A set of moments: spans in order, apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans(Vec<Span>);

impl Spans {
    /// One span; none if it does not end after it begins.
    #[must_use]
    pub fn one(from: Moment, until: Moment) -> Self {
        [(from, until)].into_iter().collect()
    }

    /// The spans in their order.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.0.iter().copied()
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).map(|span| (span.from, span.until)).collect()
    }

    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (mut ours, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        let mut common = Vec::new();
        while let (Some(a), Some(b)) = (ours.peek().copied(), theirs.peek().copied()) {
            let (from, until) = (a.from.max(b.from), a.until.min(b.until));
            if from < until {
                common.push(Span { from, until });
            }
            if a.until <= b.until {
                ours.next();
            } else {
                theirs.next();
            }
        }
        Self(common)
    }

    /// What of `whole` is not in it.
    #[must_use]
    pub fn outside(&self, whole: Span) -> Self {
        let mut gaps = Vec::new();
        let mut from = whole.from;
        for span in self.iter() {
            gaps.push((from, span.from.min(whole.until)));
            from = from.max(span.until);
        }
        gaps.push((from, whole.until));
        gaps.into_iter().collect()
    }
}

impl FromIterator<(Moment, Moment)> for Spans {
    /// In any order, overlapping or not; empty ones are left out.
    fn from_iter<I: IntoIterator<Item = (Moment, Moment)>>(pairs: I) -> Self {
        let mut spans: Vec<Span> = pairs
            .into_iter()
            .filter(|(from, until)| from < until)
            .map(|(from, until)| Span { from, until })
            .collect();
        spans.sort_unstable();
        let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match joined.last_mut() {
                Some(last) if span.from <= last.until => last.until = last.until.max(span.until),
                _ => joined.push(span),
            }
        }
        Self(joined)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: Span = Span { from: Moment(0), until: Moment(64) };

    fn spans(pairs: &[(u64, u64)]) -> Spans {
        pairs.iter().map(|&(from, until)| (Moment(from), Moment(until))).collect()
    }

    /// One bit for each moment of `WHOLE`.
    fn bits(spans: &Spans) -> u64 {
        spans.iter().flat_map(|span| span.from.0..span.until.0).map(|bit| 1 << bit).sum()
    }

    proptest! {
        #[test]
        fn sets_of_moments_follow_the_laws_of_sets(a in prop::collection::vec((0u64..64, 0u64..64), 0..6),
                                                   b in prop::collection::vec((0u64..64, 0u64..64), 0..6)) {
            let (a, b) = (spans(&a), spans(&b));
            prop_assert_eq!(bits(&a.or(&b)), bits(&a) | bits(&b));
            prop_assert_eq!(bits(&a.and(&b)), bits(&a) & bits(&b));
            prop_assert_eq!(bits(&a.outside(WHOLE)), !bits(&a));
            for set in [&a, &a.or(&b), &a.and(&b), &a.outside(WHOLE)] {
                let apart = set.0.windows(2).all(|pair| pair[0].until < pair[1].from);
                prop_assert!(apart && set.iter().all(|span| span.from < span.until));
            }
        }
    }
}
