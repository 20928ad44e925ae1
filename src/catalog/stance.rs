//! How POPs stand for the prefixes they share: what this one tells the others, and what it hears of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

/// A POP that counted on us may do so for this long after it sent what we have answered; one that we heard of is
/// believed for this long. Of the two ends of a way each measures from its own past, so that whoever counts on
/// somebody is known to it.
pub const COUNTED: Duration = Duration::from_millis(1_500);
/// How much longer somebody is asked who may count on us.
const MARGIN: Duration = Duration::from_millis(250);

/// How a POP stands for a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stance {
    /// It announces it, and serves it as far as it knows.
    Announced,
    /// It still announces it, and an operator has it withdrawn soon.
    Draining,
    /// It still announces it, and does not serve it.
    Held(Failure),
    /// It withdrew it because it does not serve it.
    Failed(Failure),
    /// It does not announce it, for other reasons.
    Withdrawn,
}

impl Stance {
    /// Whether routers have the route from there.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        matches!(self, Self::Announced | Self::Draining | Self::Held(_))
    }

    /// What does not work there.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Held(failure) | Self::Failed(failure) => Some(failure),
            Self::Announced | Self::Draining | Self::Withdrawn => None,
        }
    }
}

/// What does not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The rule and the service, such as `below-watermark web`: the same words for the same check at every POP. At
    /// most [`Failure::LONGEST`] octets.
    pub what: Arc<str>,
    /// Since when.
    pub at: Instant,
}

impl Failure {
    pub const LONGEST: usize = 96;

    /// Too long words are cut.
    #[must_use]
    pub fn new(words: &str, at: Instant) -> Self {
        let end = words.floor_char_boundary(Self::LONGEST);
        Self { what: words[..end].into(), at }
    }
}

/// What this POP tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stances {
    /// Grows with every change.
    pub revision: u64,
    pub of: BTreeMap<IpNetwork, Stance>,
}

/// What this POP hears of the others.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Our own name, by which we stand in line with the others.
    pub own: Arc<str>,
    /// How many others there are, heard or not.
    pub members: usize,
    pub pops: BTreeMap<Arc<str>, HeardOf>,
}

/// What is heard of one POP.
#[derive(Debug, Clone)]
pub struct HeardOf {
    /// When its last word came.
    pub at: Instant,
    /// When we sent the last word of ours that it has answered.
    pub answered: Instant,
    /// The last revision of ours that it knows as a whole.
    pub revision: u64,
    pub of: Arc<BTreeMap<IpNetwork, Stance>>,
}

impl HeardOf {
    /// Whether it hears us, and is there: it may be counted on.
    #[must_use]
    pub fn counts(&self, now: Instant) -> bool {
        now < self.answered + COUNTED
    }

    /// Whether it may count on us.
    #[must_use]
    pub fn may_count(&self, now: Instant) -> bool {
        now < self.at + COUNTED + MARGIN
    }
}
