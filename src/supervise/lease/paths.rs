//! What connections of our own found on the way from a listener to a backend.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An error is cut here.
const ERROR_CHARS: usize = 200;

/// What the self-probes found, service by service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths {
    /// Whether there is anybody who probes: without, no service is asked for a proof. True from the first snapshot
    /// on where there is, or a prefix would be announced in the moment before.
    pub probing: bool,
    /// Services with listeners that can be probed; one that is not here is [`PathHealth::Unproven`].
    pub by_service: BTreeMap<String, PathHealth>,
}

/// Whether clients of a service come through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathHealth {
    /// Nothing has come through since the start, or since the listener is new; but nothing is proven either.
    Unproven,
    /// The last of all its listeners came through then.
    Serving { last: Instant },
    /// As many as it takes in a row did not.
    Failing {
        /// The first of the row.
        since: Instant,
        /// In a row.
        failures: u32,
        /// The last error, in words.
        error: String,
        /// The address and port that clients would use.
        listener: String,
        last_ok: Option<Instant>,
    },
}

impl Paths {
    /// Whether the decision could see a difference: another state, or other words of the same. That something came
    /// through once more is none.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        let same = |one: &PathHealth, other: &PathHealth| match (one, other) {
            (PathHealth::Serving { .. }, PathHealth::Serving { .. }) => true,
            _ => one == other,
        };
        let alike =
            |((name, one), (named, other)): ((&String, _), (&String, _))| name == named && same(one, other);
        self.probing != other.probing
            || self.by_service.len() != other.by_service.len()
            || !self.by_service.iter().zip(&other.by_service).all(alike)
    }
}

impl PathHealth {
    /// What a service is whose listeners are so: as its worst one. One that fails is worse than one that is not
    /// proven; of those that serve, the one that did longest ago; of those that fail, the one that does longest.
    #[must_use]
    pub fn worst(listeners: impl IntoIterator<Item = Self>) -> Self {
        listeners.into_iter().min_by(Self::by_worth).unwrap_or(Self::Unproven)
    }

    fn by_worth(&self, other: &Self) -> Ordering {
        let rank = |it: &Self| match it {
            Self::Failing { since, .. } => (0, Some(*since)),
            Self::Unproven => (1, None),
            Self::Serving { last } => (2, Some(*last)),
        };
        rank(self).cmp(&rank(other))
    }
}

/// What became of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It came through to a backend and back.
    Served,
    /// It came as far as the choice, and no backend is up: the checks know, and say it themselves (rule 5). It proves
    /// everything before the choice, and is not counted as a failure.
    NoBackend,
    /// It did not; why, in words.
    Failed(String),
}

/// The judge of one listener.
///
/// One probe at a time: [`begin`](Self::begin) gives leave, and takes a probe without an outcome for a failure once
/// its time is over, so that a lost one cannot keep a listener well.
#[derive(Debug, Clone)]
pub struct PathJudge {
    listener: String,
    fall: u32,
    timeout: Duration,
    begun: Option<Instant>,
    /// Failures in a row, and when the first of them ended.
    row: Option<(u32, Instant)>,
    /// The last error of the row.
    error: String,
    failing: bool,
    last_ok: Option<Instant>,
}

impl PathJudge {
    /// For a listener, named as clients would (`198.51.100.1:443`); it takes `fall` failures in a row to fall, one at
    /// least, and each probe has `timeout`.
    #[must_use]
    pub fn new(listener: String, fall: u32, timeout: Duration) -> Self {
        Self {
            listener,
            fall: fall.max(1),
            timeout,
            begun: None,
            row: None,
            error: String::new(),
            failing: false,
            last_ok: None,
        }
    }

    /// Other bounds are configured; they count from the next outcome on.
    pub fn configure(&mut self, fall: u32, timeout: Duration) {
        (self.fall, self.timeout) = (fall.max(1), timeout);
    }

    /// Whether a probe may begin now; it has then.
    pub fn begin(&mut self, now: Instant) -> bool {
        match self.begun {
            Some(begun) if now.saturating_duration_since(begun) <= self.timeout => return false,
            Some(_) => {
                let error = format!("no answer within {:?}", self.timeout);
                self.handle_outcome(Outcome::Failed(error), now);
            }
            None => {}
        }
        self.begun = Some(now);
        true
    }

    /// A probe has ended.
    pub fn handle_outcome(&mut self, outcome: Outcome, now: Instant) {
        self.begun = None;
        match outcome {
            Outcome::Served => {
                self.last_ok = Some(now);
                self.failing = false;
                self.row = None;
            }
            Outcome::NoBackend => {
                self.row = self.row.filter(|_| self.failing);
                // Only what has served once is proven by less.
                self.last_ok = self.last_ok.map(|last| if self.failing { last } else { now });
            }
            Outcome::Failed(error) => {
                let (failures, since) = self.row.unwrap_or((0, now));
                self.row = Some((failures.saturating_add(1), since));
                self.error = error.chars().take(ERROR_CHARS).collect();
                self.failing |= failures.saturating_add(1) >= self.fall;
            }
        }
    }

    /// What follows.
    #[must_use]
    pub fn health(&self) -> PathHealth {
        match (self.row.filter(|_| self.failing), self.last_ok) {
            (Some((failures, since)), last_ok) => PathHealth::Failing {
                since,
                failures,
                error: self.error.clone(),
                listener: self.listener.clone(),
                last_ok,
            },
            (None, Some(last)) => PathHealth::Serving { last },
            (None, None) => PathHealth::Unproven,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(500);

    fn judge() -> PathJudge {
        PathJudge::new("198.51.100.1:443".to_owned(), 3, TIMEOUT)
    }

    fn failed() -> Outcome {
        Outcome::Failed("refused".to_owned())
    }

    fn name(health: &PathHealth) -> &'static str {
        match health {
            PathHealth::Unproven => "unproven",
            PathHealth::Serving { .. } => "serving",
            PathHealth::Failing { .. } => "failing",
        }
    }

    #[test]
    fn it_falls_after_a_row_of_failures_and_rises_by_one_success() {
        use Outcome::{NoBackend, Served};
        let start = Instant::now();
        let table: [(&[Outcome], &str); 12] = [
            (&[], "unproven"),
            (&[failed(), failed()], "unproven"),
            (&[failed(), failed(), failed()], "failing"),
            (&[Served], "serving"),
            (&[Served, failed(), failed()], "serving"),
            (&[Served, failed(), failed(), Served, failed(), failed()], "serving"),
            (&[Served, failed(), failed(), failed()], "failing"),
            (&[Served, failed(), failed(), failed(), Served], "serving"),
            (&[NoBackend], "unproven"),
            (&[Served, NoBackend, NoBackend, NoBackend], "serving"),
            (&[Served, failed(), failed(), NoBackend, failed()], "serving"),
            // What is proven broken is not mended by what proves less.
            (&[Served, failed(), failed(), failed(), NoBackend], "failing"),
        ];
        for (outcomes, expected) in table {
            let mut judge = judge();
            for (second, outcome) in (1..).zip(outcomes) {
                judge.handle_outcome(outcome.clone(), start + Duration::from_secs(second));
            }
            assert_eq!(name(&judge.health()), expected, "{outcomes:?}");
        }
    }

    #[test]
    fn a_failure_tells_since_when_how_often_where_and_why() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut judge = judge();
        judge.handle_outcome(Outcome::Served, at(0));
        (1..=4).for_each(|s| judge.handle_outcome(failed(), at(s)));
        let expected = PathHealth::Failing {
            since: at(1),
            failures: 4,
            error: "refused".to_owned(),
            listener: "198.51.100.1:443".to_owned(),
            last_ok: Some(at(0)),
        };
        assert_eq!(judge.health(), expected);
    }

    #[test]
    fn there_is_one_probe_at_a_time_and_a_lost_one_is_a_failure() {
        let start = Instant::now();
        let mut judge = judge();
        judge.handle_outcome(Outcome::Served, start);
        assert!(judge.begin(start));
        assert!(!judge.begin(start + TIMEOUT));
        let mut now = start;
        for _ in 0..3 {
            assert_eq!(name(&judge.health()), "serving");
            now += TIMEOUT * 2;
            assert!(judge.begin(now));
        }
        let PathHealth::Failing { error, .. } = judge.health() else { panic!("{judge:?}") };
        assert_eq!(error, "no answer within 500ms");
        judge.handle_outcome(Outcome::Served, now);
        assert!(judge.begin(now));
    }

    #[test]
    fn a_service_is_as_its_worst_listener() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let failing = |since| PathHealth::Failing {
            since,
            failures: 3,
            error: String::new(),
            listener: String::new(),
            last_ok: None,
        };
        let serving = |last| PathHealth::Serving { last };
        let table = [
            (vec![], PathHealth::Unproven),
            (vec![serving(at(9)), serving(at(5))], serving(at(5))),
            (vec![serving(at(9)), PathHealth::Unproven], PathHealth::Unproven),
            (vec![PathHealth::Unproven, failing(at(2)), serving(at(9)), failing(at(1))], failing(at(1))),
        ];
        for (listeners, expected) in table {
            assert_eq!(PathHealth::worst(listeners.clone()), expected, "{listeners:?}");
        }
    }

    #[test]
    fn that_it_served_once_more_is_no_difference() {
        let start = Instant::now();
        let of = |health: &PathHealth| Paths {
            probing: true,
            by_service: BTreeMap::from([("web".to_owned(), health.clone())]),
        };
        let serving = of(&PathHealth::Serving { last: start });
        assert!(!serving.differs(&of(&PathHealth::Serving { last: start + TIMEOUT })));
        for other in
            [of(&PathHealth::Unproven), Paths { probing: true, ..Paths::default() }, Paths::default()]
        {
            assert!(serving.differs(&other) && other.differs(&serving), "{other:?}");
        }
        let renamed = Paths {
            probing: true,
            by_service: BTreeMap::from([("dns".to_owned(), PathHealth::Serving { last: start })]),
        };
        assert!(serving.differs(&renamed));
    }

    proptest! {
        /// Failing exactly from the `fall`-th failure in a row until the next success.
        #[test]
        fn it_fails_only_by_a_row(fall in 1..6u32, served in prop::collection::vec(any::<bool>(), 0..40)) {
            let mut judge = PathJudge::new(String::new(), fall, TIMEOUT);
            let mut now = Instant::now();
            for end in 0..served.len() {
                now += TIMEOUT;
                judge.handle_outcome(if served[end] { Outcome::Served } else { failed() }, now);
                let row = served[..=end].iter().rev().take_while(|served| !**served).count();
                let ever = served[..=end].contains(&true);
                let expected = if row >= fall as usize { "failing" } else if ever { "serving" } else { "unproven" };
                prop_assert_eq!(name(&judge.health()), expected);
            }
        }
    }
}
