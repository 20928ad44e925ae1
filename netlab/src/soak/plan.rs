//! Which fault comes when: drawn from a seed, so that a run can be repeated.

use std::time::Duration;

use super::fault::Fault;

/// Faults of one target, drawn one after the other.
#[derive(Debug, Clone)]
pub struct Trouble {
    pub target: String,
    pub faults: Vec<Fault>,
    /// Between two faults: least and most.
    pub gap: [Duration; 2],
    /// How long one lasts: least and most.
    pub lasts: [Duration; 2],
    /// None begins later.
    pub until: Duration,
}

/// One fault to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// After the start of the soak.
    pub at: Duration,
    pub target: String,
    pub fault: Fault,
    pub lasts: Duration,
}

/// All faults of all targets in their order. Those of one trouble never overlap, and what one trouble draws does not
/// depend on the others.
#[must_use]
pub fn plan(seed: u64, troubles: &[Trouble]) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (number, trouble) in troubles.iter().enumerate() {
        let mut dice = Dice::new(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut at = dice.between(trouble.gap);
        while at < trouble.until && !trouble.faults.is_empty() {
            let fault = trouble.faults[dice.below(trouble.faults.len())];
            let lasts = dice.between(trouble.lasts);
            planned.push(Planned { at, target: trouble.target.clone(), fault, lasts });
            // A step forward even where both are nothing.
            at += lasts + dice.between(trouble.gap).max(Duration::from_millis(1));
        }
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}

/// Numbers from a seed, the same on every machine: splitmix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any index of a list of this many; 0 for an empty one.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % (count.max(1) as u64)) as usize
    }

    /// Any duration between two, both included, in microseconds.
    pub fn between(&mut self, [least, most]: [Duration; 2]) -> Duration {
        let room = most.saturating_sub(least).as_micros() as u64;
        least + Duration::from_micros(self.next() % (room + 1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(target: &str) -> Trouble {
        let ms = |a, b| [Duration::from_millis(a), Duration::from_millis(b)];
        Trouble {
            target: target.to_owned(),
            faults: vec![Fault::Kill, Fault::Stop, Fault::Hang],
            gap: ms(200, 4000),
            lasts: ms(50, 5000),
            until: Duration::from_secs(300),
        }
    }

    #[test]
    fn a_seed_is_a_plan_and_its_faults_stay_within_bounds() {
        let troubles = [trouble("a"), trouble("b")];
        let first = plan(7, &troubles);
        assert_eq!(first, plan(7, &troubles));
        assert_ne!(first, plan(8, &troubles));
        assert!(first.is_sorted_by_key(|planned| planned.at));
        for target in ["a", "b"] {
            let own: Vec<_> = first.iter().filter(|planned| planned.target == target).collect();
            assert!((30..150).contains(&own.len()), "{}", own.len());
            for fault in [Fault::Kill, Fault::Stop, Fault::Hang] {
                assert!(own.iter().any(|planned| planned.fault == fault), "{fault}");
            }
            for pair in own.windows(2) {
                let gap = pair[1].at - (pair[0].at + pair[0].lasts);
                assert!(gap >= Duration::from_millis(200) && gap <= Duration::from_secs(4), "{gap:?}");
            }
            let bounds = Duration::from_millis(50)..=Duration::from_secs(5);
            assert!(own.iter().all(|planned| bounds.contains(&planned.lasts)));
        }
        // What one target draws does not depend on the others.
        let alone = plan(7, &troubles[..1]);
        assert!(alone.iter().eq(first.iter().filter(|planned| planned.target == "a")));
    }
}
