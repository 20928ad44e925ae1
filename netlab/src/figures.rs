//! Figures of a run: samples, honest percentiles, goals, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// One figure. Serializes as `{"value", "unit", "n", "p50", "p99", "min", "max", "goal", "met"}`,
/// where what does not apply is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What stands for the whole: the median of samples, or the single value.
    pub value: f64,
    /// `ms`, `%`, `×`, `packets`, …
    pub unit: String,
    /// How many samples stand behind it.
    pub n: usize,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub goal: Option<Goal>,
    /// Whether the goal is met; null without a goal.
    pub met: Option<bool>,
}

/// What a figure should be: terms that must all hold, such as `p50 <= 1.5 ms, p99 <= 10 ms` or `>= 99.9 %`.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    text: String,
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq)]
struct Term {
    of: Quantity,
    comparison: Comparison,
    bound: f64,
    unit: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Value,
    P50,
    P99,
    Min,
    Max,
    N,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GoalError {
    #[error(
        "the goal term {0:?} is not of the form \"p50 <= 1.5 ms\" (p50 p99 min max n or nothing; <= < >= > =)"
    )]
    Form(String),
    #[error("the goal's unit {goal:?} cannot be compared with the figure's unit {figure:?}")]
    Unit { goal: String, figure: String },
}

impl Figure {
    /// From samples in `unit`; `None` if there are none. Samples that are not numbers are left out.
    pub fn from_samples(samples: &[f64], unit: &str) -> Option<Figure> {
        let mut sorted: Vec<f64> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let p50 = nearest_rank(&sorted, 50.0)?;
        Some(Figure {
            value: p50,
            unit: unit.to_owned(),
            n: sorted.len(),
            p50: Some(p50),
            p99: nearest_rank(&sorted, 99.0),
            min: sorted.first().copied(),
            max: sorted.last().copied(),
            goal: None,
            met: None,
        })
    }

    /// A single value out of `n` observations: a share, a count, a ratio.
    pub fn single(value: f64, unit: &str, n: usize) -> Figure {
        Figure {
            value,
            unit: unit.to_owned(),
            n,
            p50: None,
            p99: None,
            min: None,
            max: None,
            goal: None,
            met: None,
        }
    }

    /// Sets the goal and judges by it. Fails if units do not fit.
    pub fn with_goal(mut self, goal: Goal) -> Result<Figure, GoalError> {
        self.met = Some(goal.judge(&self)?);
        self.goal = Some(goal);
        Ok(self)
    }
}

impl Goal {
    /// Whether the figure meets every term. A quantity that the figure does not have misses.
    pub fn judge(&self, figure: &Figure) -> Result<bool, GoalError> {
        let mut met = true;
        for term in &self.terms {
            let factor = conversion(&term.unit, &figure.unit)
                .ok_or_else(|| GoalError::Unit { goal: term.unit.clone(), figure: figure.unit.clone() })?;
            let (found, bound) = match term.of {
                Quantity::N => (Some(figure.n as f64), term.bound),
                Quantity::Value => (Some(figure.value), term.bound * factor),
                Quantity::P50 => (figure.p50, term.bound * factor),
                Quantity::P99 => (figure.p99, term.bound * factor),
                Quantity::Min => (figure.min, term.bound * factor),
                Quantity::Max => (figure.max, term.bound * factor),
            };
            met &= found.is_some_and(|found| match term.comparison {
                Comparison::AtMost => found <= bound,
                Comparison::Below => found < bound,
                Comparison::AtLeast => found >= bound,
                Comparison::Above => found > bound,
                Comparison::Equal => found == bound,
            });
        }
        Ok(met)
    }
}

impl FromStr for Goal {
    type Err = GoalError;

    fn from_str(text: &str) -> Result<Goal, GoalError> {
        let terms = text.split([',', ';']).map(term).collect::<Result<_, _>>()?;
        Ok(Goal { text: text.trim().to_owned(), terms })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// The smallest sample that at least `percent` of all samples do not exceed: always a sample that
/// occurred, never an interpolation. `sorted` ascending; `None` if empty.
pub fn nearest_rank(sorted: &[f64], percent: f64) -> Option<f64> {
    // Rounding up a product that is whole but for the representation would skip a rank.
    let rank = (percent * sorted.len() as f64 / 100.0 - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

/// The figures as a table for people, one line each, ending in a newline; empty if there are none.
pub fn table(figures: &BTreeMap<String, Figure>) -> String {
    let mut rows = vec![["figure", "n", "p50", "p99", "min", "max", "goal", ""].map(str::to_owned)];
    for (name, figure) in figures {
        let shown = |value: Option<f64>| value.map_or_else(String::new, |value| number(value, &figure.unit));
        rows.push([
            name.clone(),
            figure.n.to_string(),
            // A single value has no distribution: it stands where the eye looks first.
            number(figure.p50.unwrap_or(figure.value), &figure.unit),
            shown(figure.p99),
            shown(figure.min),
            shown(figure.max),
            figure.goal.as_ref().map_or_else(String::new, Goal::to_string),
            figure.met.map_or("", |met| if met { "met" } else { "MISSED" }).to_owned(),
        ]);
    }
    if rows.len() == 1 {
        return String::new();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let gap = widths[column] - cell.chars().count();
            let (before, after) = if (1..=5).contains(&column) { (gap, 0) } else { (0, gap) };
            let _ = write!(line, "{:before$}{cell}{:after$}  ", "", "");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn term(text: &str) -> Result<Term, GoalError> {
    let form = || GoalError::Form(text.trim().to_owned());
    let at = text.find(['<', '>', '=', '≤', '≥']).ok_or_else(form)?;
    let (of, rest) = text.split_at(at);
    let of = match of.trim() {
        "" | "value" => Quantity::Value,
        "p50" | "median" => Quantity::P50,
        "p99" => Quantity::P99,
        "min" => Quantity::Min,
        "max" => Quantity::Max,
        "n" => Quantity::N,
        _ => return Err(form()),
    };
    let signs = [
        ("<=", Comparison::AtMost),
        ("≤", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("≥", Comparison::AtLeast),
        ("==", Comparison::Equal),
        ("=", Comparison::Equal),
        ("<", Comparison::Below),
        (">", Comparison::Above),
    ];
    let (comparison, rest) = signs
        .iter()
        .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?.trim())))
        .ok_or_else(form)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '_')).unwrap_or(rest.len());
    let bound: f64 = rest[..end].replace('_', "").parse().map_err(|_| form())?;
    Ok(Term { of, comparison, bound, unit: rest[end..].trim().to_owned() })
}

/// How many of the figure's units one of the goal's is; a goal without a unit means the figure's.
fn conversion(goal: &str, figure: &str) -> Option<f64> {
    let seconds = |unit: &str| match unit {
        "ns" => Some(1e-9),
        "us" | "µs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        _ => None,
    };
    let same = |unit: &str| if unit == "x" { "×".to_owned() } else { unit.to_owned() };
    if goal.is_empty() || same(goal) == same(figure) {
        return Some(1.0);
    }
    Some(seconds(goal)? / seconds(figure)?)
}

fn number(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if v == v.trunc() && v >= 1.0 => 0,
        v if v >= 1000.0 => 0,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    // Shares live in their last digits.
    let digits = if unit == "%" && value != value.trunc() { 3 } else { digits };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hundred() -> Figure {
        Figure::from_samples(&(1..=100).map(f64::from).collect::<Vec<_>>(), "ms").unwrap()
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let figure = hundred();
        assert_eq!(
            (figure.p50, figure.p99, figure.min, figure.max),
            (Some(50.0), Some(99.0), Some(1.0), Some(100.0))
        );
        // With fewer than a hundred samples p99 is the worst one: nothing is smoothed away.
        let few = Figure::from_samples(&[3.0, 1.0, 9.0], "ms").unwrap();
        assert_eq!((few.p50, few.p99, few.n), (Some(3.0), Some(9.0), 3));
        assert_eq!(Figure::from_samples(&[1.0, 2.0], "ms").unwrap().p50, Some(1.0));
        assert!(Figure::from_samples(&[], "ms").is_none());
        assert!(Figure::from_samples(&[f64::NAN], "ms").is_none());
    }

    #[test]
    fn goals_are_judged_with_units() {
        for (goal, met) in [
            ("p50 <= 50 ms", true),
            ("p50 < 50 ms", false),
            ("p99 ≤ 0.099 s", true),
            ("p99 <= 98000 µs", false),
            ("p50 <= 60 ms, p99 <= 60 ms", false),
            ("max = 100", true),
            ("n >= 100, min > 0 ms", true),
        ] {
            assert_eq!(goal.parse::<Goal>().unwrap().judge(&hundred()), Ok(met), "{goal}");
        }
        let share = Figure::single(99.95, "%", 5000);
        assert_eq!(">= 99.9 %".parse::<Goal>().unwrap().judge(&share), Ok(true));
        assert_eq!(">= 100 x".parse::<Goal>().unwrap().judge(&Figure::single(150.0, "×", 1)), Ok(true));
        // A single value has no p99: claiming one is a miss, not a pass.
        assert_eq!("p99 >= 0 %".parse::<Goal>().unwrap().judge(&share), Ok(false));
        assert!(matches!(
            "p50 <= 1 %".parse::<Goal>().unwrap().judge(&hundred()),
            Err(GoalError::Unit { .. })
        ));
        for wrong in ["", "p50", "p98 <= 3", "p50 <= ms", "p50 ! 3", "p50 <= 1 ms,"] {
            assert!(wrong.parse::<Goal>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_json_is_the_contract() {
        let figure = hundred().with_goal("p50 <= 1.5 ms".parse().unwrap()).unwrap();
        let json = serde_json::to_value(&figure).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"value": 50.0, "unit": "ms", "n": 100, "p50": 50.0, "p99": 99.0, "min": 1.0,
                               "max": 100.0, "goal": "p50 <= 1.5 ms", "met": false})
        );
        assert_eq!(
            serde_json::to_value(Figure::single(2.0, "×", 1)).unwrap()["p99"],
            serde_json::Value::Null
        );
    }

    #[test]
    fn the_table_lines_up() {
        let mut figures = BTreeMap::new();
        figures.insert("withdraw".to_owned(), hundred().with_goal("p99 <= 10 ms".parse().unwrap()).unwrap());
        figures.insert("share answered".to_owned(), Figure::single(99.987, "%", 5000));
        let text = table(&figures);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("99.987 %") && lines[2].ends_with("MISSED"));
        let column = |line: &str, word: &str| line.split(word).next().unwrap().chars().count() + word.len();
        assert_eq!(column(lines[0], "p50"), column(lines[2], "50 ms"));
        assert_eq!(table(&BTreeMap::new()), "");
    }

    proptest! {
        #[test]
        fn a_percentile_is_a_sample_that_covers_its_share(samples in prop::collection::vec(-1e6..1e6f64, 1..400),
                                                          percent in 0.1..100.0f64) {
            let mut sorted = samples;
            sorted.sort_by(f64::total_cmp);
            let found = nearest_rank(&sorted, percent).unwrap();
            let covered = sorted.iter().filter(|sample| **sample <= found).count() as f64;
            let below = sorted.iter().filter(|sample| **sample < found).count() as f64;
            let share = percent * sorted.len() as f64 / 100.0;
            prop_assert!(covered >= share - 1e-6 && below < share);
        }
    }
}
