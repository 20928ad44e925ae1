//! The fleet's budget of withdrawals: who may leave a prefix to the others, who asks first, and who stays.
//!
//! Whoever fails and sees at least `min_announcers` others with greater names that announce the prefix leaves it to
//! them at once. These last ones, the keepers, tell that they fail and leave only when every POP that may count on them
//! has heard it, and enough of those announce all the same. So of any two POPs at most one leaves because of the
//! other, and the last one is held. Nothing here is written down, and no clock is compared with another.

pub mod told;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use crate::catalog::stance::{Failure, Heard, HeardOf, Stance};

/// Failures of the same kind that begin within this time are one failure.
const AT_ONCE: Duration = Duration::from_secs(30);
/// A failure that is only inferred waits this long for each POP that goes before: whether they see the same.
const STAGGER: Duration = Duration::from_millis(100);
const MOST_STAGGER: Duration = Duration::from_secs(1);
/// For how long nobody must have announced a prefix before somebody who withdrew it comes back.
const DARK: Duration = Duration::from_millis(500);

/// What is known about the others for one prefix.
#[derive(Debug, Clone)]
pub struct FleetFact {
    pub prefix: IpNetwork,
    pub min_announcers: u32,
    pub heard: Arc<Heard>,
    /// The revision in which the others are told first that we want to leave; None: they were not told.
    pub told: Option<u64>,
    /// Since when nobody has announced it.
    pub dark_since: Option<Instant>,
}

/// Why we want to leave.
#[derive(Debug, Clone, Copy)]
pub enum Want<'a> {
    /// An operator wants it.
    Drain,
    /// It is not served here. `proven` here, and not only inferred from silence.
    Fail { failure: &'a Failure, proven: bool },
}

/// Whether we may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// Withdraw.
    Spared,
    /// Stay.
    Needed(Hold),
}

/// Why a prefix stays announced that is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The others are asked, or those that go before us.
    Asking,
    /// Too few others announce it.
    Last { others: u32, min_announcers: u32 },
    /// Nobody announces it any more, ourselves included until now.
    Dark,
    /// Others fail in the same way at the same time.
    Shared { what: Arc<str>, others: Vec<Arc<str>> },
    /// Nobody is heard, and the fault is only inferred, or an operator's wish.
    Isolated,
}

impl FleetFact {
    /// Whether one who announces the prefix may withdraw it.
    #[must_use]
    pub fn may_leave(&self, want: Want<'_>, now: Instant) -> Outlook {
        // `min_announcers: 0`, or nobody else is in the fleet: there is nobody to spare.
        if self.min_announcers == 0 || self.heard.members == 0 {
            return Outlook::Spared;
        }
        if !self.heard.pops.values().any(|pop| pop.counts(now)) {
            return match want {
                Want::Fail { proven: true, .. } => Outlook::Spared,
                _ => Outlook::Needed(Hold::Isolated),
            };
        }
        if let Want::Fail { failure, .. } = want
            && let Some(hold) = self.shared(failure, now)
        {
            return Outlook::Needed(hold);
        }
        let (own, min) = (&self.heard.own, self.min_announcers as usize);
        let counted: Vec<&Arc<str>> = self.announcing(now).collect();
        if counted.len() < min {
            let others = counted.len() as u32;
            return Outlook::Needed(Hold::Last { others, min_announcers: self.min_announcers });
        }
        // Not one of the keepers: they stay, or ask us.
        let after = counted.iter().filter(|name| *name > &own).count();
        if let Want::Fail { failure, proven } = want
            && after >= min
        {
            let before = (counted.len() - after) as u32;
            let turn = failure.at + (STAGGER * (before + 1)).min(MOST_STAGGER);
            return if proven || turn <= now { Outlook::Spared } else { Outlook::Needed(Hold::Asking) };
        }
        if self.told.is_some_and(|told| self.all_know(told, now)) {
            Outlook::Spared
        } else {
            Outlook::Needed(Hold::Asking)
        }
    }

    /// Whether one who withdrew the prefix because it failed has to come back: nobody announces it.
    #[must_use]
    pub fn must_return(&self, now: Instant) -> bool {
        // Those that were counted on come back one after the other, in the order of their names.
        let turn = self.failed(now).filter(|(name, _)| **name > self.heard.own).count() as u32;
        self.dark_since.is_some_and(|since| now >= since + DARK * (turn.min(10) + 1))
    }

    /// Whether others are heard, and none of them announces the prefix in any way.
    #[must_use]
    pub fn is_dark(&self, now: Instant) -> bool {
        let mut others = self.others(now, HeardOf::counts).peekable();
        self.min_announcers > 0
            && others.peek().is_some()
            && !others.any(|(_, stance)| stance.is_some_and(Stance::is_announced))
    }

    /// Others that announce it, do not leave, and hear us.
    fn announcing(&self, now: Instant) -> impl Iterator<Item = &Arc<str>> {
        let others = self.others(now, HeardOf::counts);
        others.filter(|(_, stance)| *stance == Some(&Stance::Announced)).map(|(name, _)| name)
    }

    /// Whether everybody who may count on us knows that we leave.
    fn all_know(&self, told: u64, now: Instant) -> bool {
        self.heard.pops.values().filter(|pop| pop.may_count(now)).all(|pop| pop.revision >= told)
    }

    fn failed(&self, now: Instant) -> impl Iterator<Item = (&Arc<str>, &Failure)> {
        let others = self.others(now, HeardOf::counts);
        others.filter_map(|(name, stance)| Some((name, stance?.failure()?)))
    }

    /// The same failure at half of those that announced the prefix, ourselves included.
    fn shared(&self, own: &Failure, now: Instant) -> Option<Hold> {
        let apart = |failure: &Failure| {
            let (first, second) = (failure.at.min(own.at), failure.at.max(own.at));
            second.saturating_duration_since(first)
        };
        let recent = || self.failed(now).filter(|(_, failure)| apart(failure) <= AT_ONCE);
        let same: Vec<_> =
            recent().filter(|(_, failure)| failure.what == own.what).map(|(name, _)| name.clone()).collect();
        let announced = 1 + recent().count() + self.announcing(now).count();
        let shared = !same.is_empty() && 2 * (same.len() + 1) >= announced;
        shared.then(|| Hold::Shared { what: own.what.clone(), others: same })
    }

    fn others(
        &self,
        now: Instant,
        heard: fn(&HeardOf, Instant) -> bool,
    ) -> impl Iterator<Item = (&Arc<str>, Option<&Stance>)> {
        let heard = self.heard.pops.iter().filter(move |(_, pop)| heard(pop, now));
        heard.map(|(name, pop)| (name, pop.of.get(&self.prefix)))
    }
}

impl Hold {
    /// The stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Asking => "held-asking",
            Self::Last { .. } => "held-last",
            Self::Dark => "held-dark",
            Self::Shared { .. } => "held-shared-fault",
            Self::Isolated => "held-isolated",
        }
    }

    /// As a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Asking => "the other POPs are asked whether they announce it".to_owned(),
            Self::Last { others: 0, .. } => "no other POP announces it".to_owned(),
            Self::Last { others, min_announcers } => {
                format!("only {others} other POPs announce it, and {min_announcers} must")
            }
            Self::Dark => "no POP announced it any more".to_owned(),
            Self::Shared { what, others } => {
                let shown: Vec<&str> = others.iter().take(5).map(|name| &**name).collect();
                let more = if others.len() > 5 { ", …" } else { "" };
                format!(
                    "{} fail{} for the same at the same time ({what}){more}: the fault is taken for a shared one",
                    shown.join(", "),
                    if others.len() == 1 { "s" } else { "" }
                )
            }
            Self::Isolated => "no other POP is heard, and the fault is not proven here".to_owned(),
        }
    }

    /// What would change it, as a sentence.
    #[must_use]
    pub fn change(&self) -> &'static str {
        match self {
            Self::Asking => "withdrawn when all other POPs have answered, and enough of them announce it",
            Self::Last { .. } | Self::Dark => "withdrawn when enough other POPs announce it",
            Self::Shared { .. } => "announced as usual when its services are up again here",
            Self::Isolated => "withdrawn when other POPs are heard again and announce it",
        }
    }
}

#[cfg(test)]
mod tests;
