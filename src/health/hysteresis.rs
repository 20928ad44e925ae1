//! From a row of outcomes to a verdict: so many in a row to rise, so many to fall, one if proven.

use super::verdict::Verdict;

/// What one probe says about the backend. A local error says nothing and never comes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    Success,
    /// Silence or a wrong answer: counted.
    Inferred,
    /// A refusal: enough by itself.
    Proven,
}

/// A verdict and the streak that may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hysteresis {
    verdict: Verdict,
    /// In a row, since the last failure.
    successes: u32,
    /// In a row, since the last success.
    failures: u32,
}

impl Default for Hysteresis {
    /// Down until proven.
    fn default() -> Self {
        Self { verdict: Verdict::Unproven, successes: 0, failures: 0 }
    }
}

impl Hysteresis {
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the last probe failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether the next outcomes may change the verdict, so that probing should hurry.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        match self.verdict {
            Verdict::Unproven => true,
            Verdict::Up => self.failures > 0,
            Verdict::Down => self.successes > 0,
        }
    }

    /// Takes the next outcome; `rise` and `fall` are at least 1 and may differ from call to call.
    /// Says whether the verdict changed.
    ///
    /// INVARIANT: the verdict becomes Up only after `rise` successes without a failure between them.
    pub fn handle(&mut self, evidence: Evidence, rise: u32, fall: u32) -> bool {
        let before = self.verdict;
        match evidence {
            Evidence::Success => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                if self.successes >= rise {
                    self.verdict = Verdict::Up;
                }
            }
            Evidence::Inferred => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if self.failures >= fall {
                    self.verdict = Verdict::Down;
                }
            }
            Evidence::Proven => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                self.verdict = Verdict::Down;
            }
        }
        self.verdict != before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs outcomes written as letters: `s`uccess, `f`ailure, `p`roven failure.
    fn run(letters: &str, rise: u32, fall: u32) -> Hysteresis {
        let mut hysteresis = Hysteresis::default();
        for letter in letters.chars() {
            let evidence = match letter {
                's' => Evidence::Success,
                'f' => Evidence::Inferred,
                _ => Evidence::Proven,
            };
            hysteresis.handle(evidence, rise, fall);
        }
        hysteresis
    }

    #[test]
    fn verdicts() {
        use Verdict::{Down, Unproven, Up};
        // letters, rise, fall, verdict, hurry
        let table = [
            ("", 2, 3, Unproven, true),
            ("s", 2, 3, Unproven, true),
            ("ss", 2, 3, Up, false),
            ("s", 1, 1, Up, false),
            ("sfs", 2, 3, Unproven, true),
            ("sfss", 2, 3, Up, false),
            ("f", 2, 3, Unproven, true),
            ("fff", 2, 3, Down, false),
            ("p", 2, 3, Down, false),
            ("ssf", 2, 3, Up, true),
            ("ssff", 2, 3, Up, true),
            ("ssfff", 2, 3, Down, false),
            ("ssffs", 2, 3, Up, false),
            ("ssffsff", 2, 3, Up, true),
            ("ssp", 2, 3, Down, false),
            ("ssps", 2, 3, Down, true),
            ("sspss", 2, 3, Up, false),
            ("sspsf", 2, 3, Down, false),
            ("ssf", 2, 1, Down, false),
        ];
        for (letters, rise, fall, verdict, hurry) in table {
            let hysteresis = run(letters, rise, fall);
            assert_eq!((hysteresis.verdict(), hysteresis.is_changing()), (verdict, hurry), "{letters:?}");
        }
    }

    fn evidence() -> impl Strategy<Value = Evidence> {
        prop_oneof![
            4 => Just(Evidence::Success),
            3 => Just(Evidence::Inferred),
            1 => Just(Evidence::Proven)
        ]
    }

    proptest! {
        #[test]
        fn up_takes_rise_in_a_row_and_down_takes_fall_or_proof(
            row in prop::collection::vec(evidence(), 0..60), rise in 1u32..6, fall in 1u32..6,
        ) {
            let mut hysteresis = Hysteresis::default();
            for at in 0..row.len() {
                let before = hysteresis.verdict();
                let changed = hysteresis.handle(row[at], rise, fall);
                let after = hysteresis.verdict();
                prop_assert_eq!(changed, before != after);
                let in_a_row = |wanted: fn(Evidence) -> bool| {
                    row[..=at].iter().rev().take_while(|&&evidence| wanted(evidence)).count() as u32
                };
                let successes = in_a_row(|evidence| evidence == Evidence::Success);
                let failures = in_a_row(|evidence| evidence != Evidence::Success);
                if changed && after == Verdict::Up { prop_assert_eq!(successes, rise); }
                if changed && after == Verdict::Down {
                    prop_assert!(failures == fall || row[at] == Evidence::Proven);
                }
                if successes >= rise { prop_assert_eq!(after, Verdict::Up); }
                if failures >= fall || row[at] == Evidence::Proven { prop_assert_eq!(after, Verdict::Down); }
                prop_assert_ne!(changed && after == Verdict::Unproven, true);
            }
        }
    }
}
