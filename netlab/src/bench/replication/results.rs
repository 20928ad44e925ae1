//! From samples to figures: rows per second, cost of a row, goals, and the table for people. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use super::column::Column;
use crate::bench::results::{put, short};
use crate::figures::{Figure, nearest_rank};

/// What a column CRDT in SQLite takes to merge one row, as published: microseconds.
const COLUMN_CRDT: f64 = 165.0;
/// What the columns are called that make up a merge: into memory, and into SQLite.
const MERGE: [Column; 2] = [Column::Push256, Column::SqlitePush];

/// What the program said.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// That were done.
    rows: u64,
    /// Processor seconds.
    cpu: f64,
    /// Seconds on the wall.
    wall: f64,
    /// By which the process grew.
    octets: Option<u64>,
    /// What quotas count for the same rows.
    weight: Option<u64>,
    version: String,
    sqlite: String,
}

/// Which number of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Rows per processor second.
    PerCpu,
    /// Rows per second on the wall.
    PerWall,
    /// Processor microseconds per row.
    Cost,
    /// Octets per row.
    Octets,
    /// The same over what quotas count.
    OverWeight,
}

/// All samples of a run, by round.
#[derive(Debug, Default)]
pub struct Results {
    samples: BTreeMap<Column, BTreeMap<usize, Sample>>,
}

impl Sample {
    /// Of what was measured.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<String, String> {
        [("edgeproxy", &self.version), ("SQLite", &self.sqlite)]
            .map(|(name, version)| (name.to_owned(), version.clone()))
            .into()
    }
}

impl Results {
    /// Takes one.
    pub fn add(&mut self, column: Column, round: usize, sample: Sample) {
        self.samples.entry(column).or_default().insert(round, sample);
    }

    /// Every figure: `COLUMN_…`, and a merge with its goal.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, Figure> {
        let mut figures = BTreeMap::new();
        for column in self.samples.keys() {
            for view in View::ALL {
                let values = self.values(*column, view);
                if let Some(figure) = Figure::from_samples(&values, view.unit()) {
                    put(&mut figures, format!("{column}_{}", view.word()), figure, view.goal(*column));
                }
            }
        }
        let merges: Vec<f64> = self.merges();
        let cheaper: Vec<f64> = merges.iter().map(|cost| COLUMN_CRDT / cost).collect();
        for (name, values, unit, goal) in [
            ("merge_cpu", merges, "µs", None),
            ("merge_cheaper_than_column_crdt", cheaper, "×", Some(">= 5 x")),
        ] {
            if let Some(figure) = Figure::from_samples(&values, unit) {
                put(&mut figures, name.to_owned(), figure, goal);
            }
        }
        figures
    }

    /// Columns down, numbers across: medians.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("{:<20}", "medians");
        for view in View::ALL {
            let _ = write!(text, "{:>16}", view.title());
        }
        text.push('\n');
        for column in self.samples.keys() {
            let _ = write!(text, "  {:<18}", column.word());
            for view in View::ALL {
                let mut values = self.values(*column, view);
                values.sort_by(f64::total_cmp);
                let shown = nearest_rank(&values, 50.0).map_or_else(|| "-".to_owned(), short);
                let _ = write!(text, "{shown:>16}");
            }
            text.push('\n');
        }
        text
    }

    /// Of each round that has both: processor microseconds for a row in memory and on the disk.
    fn merges(&self) -> Vec<f64> {
        let [memory, disk] = MERGE.map(|column| self.samples.get(&column));
        let (Some(memory), Some(disk)) = (memory, disk) else { return Vec::new() };
        let sum = |(round, sample): (&usize, &Sample)| {
            Some(View::Cost.of(MERGE[0], sample)? + View::Cost.of(MERGE[1], disk.get(round)?)?)
        };
        memory.iter().filter_map(sum).collect()
    }

    fn values(&self, column: Column, view: View) -> Vec<f64> {
        let rounds = self.samples.get(&column).into_iter().flat_map(BTreeMap::values);
        rounds.filter_map(|sample| view.of(column, sample)).collect()
    }
}

impl View {
    const ALL: [View; 5] = [Self::PerCpu, Self::PerWall, Self::Cost, Self::Octets, Self::OverWeight];

    fn word(self) -> &'static str {
        match self {
            Self::PerCpu => "per_cpu",
            Self::PerWall => "per_wall",
            Self::Cost => "cpu",
            Self::Octets => "per_row",
            Self::OverWeight => "over_weight",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::PerCpu => "rows/cpu-s",
            Self::PerWall => "rows/s",
            Self::Cost => "cpu-µs/row",
            Self::Octets => "octets/row",
            Self::OverWeight => "× of quota",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::PerCpu | Self::PerWall => "rows/s",
            Self::Cost => "µs",
            Self::Octets => "octets",
            Self::OverWeight => "×",
        }
    }

    fn goal(self, column: Column) -> Option<&'static str> {
        let counts = self == Self::PerCpu || (self == Self::PerWall && column.is_on_disk());
        column.goal().filter(|_| counts)
    }

    fn of(self, column: Column, sample: &Sample) -> Option<f64> {
        let rows = sample.rows as f64;
        match self {
            Self::PerCpu => Some(rows / sample.cpu),
            Self::PerWall => column.is_on_disk().then(|| rows / sample.wall),
            Self::Cost => Some(sample.cpu / rows * 1e6),
            Self::Octets => Some(sample.octets? as f64 / rows),
            Self::OverWeight => Some(sample.octets? as f64 / sample.weight? as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: u64, cpu: f64, wall: f64) -> Sample {
        let [version, sqlite] = ["0.1.0", "3.50.0"].map(str::to_owned);
        Sample { rows, cpu, wall, octets: None, weight: None, version, sqlite }
    }

    #[test]
    fn goals_are_per_processor_second_and_of_the_disk_on_the_wall_too() {
        let mut results = Results::default();
        results.add(Column::Push1, 0, sample(60_000, 1.0, 9.0));
        results.add(Column::Push16, 0, sample(40_000, 1.0, 0.1));
        // The processor would do it; the disk does not.
        results.add(Column::SqlitePush, 0, sample(100_000, 2.0, 5.0));
        let figures = results.figures();
        let met = |name: &str| figures[name].met;
        assert_eq!((met("push_1_per_cpu"), met("push_16_per_cpu")), (Some(true), Some(false)));
        assert_eq!((met("sqlite_push_per_cpu"), met("sqlite_push_per_wall")), (Some(true), Some(false)));
        assert!(!figures.contains_key("push_1_per_wall") && !figures.contains_key("merge_cpu"));
        assert!(results.table().contains("push_16"));
    }

    #[test]
    fn a_merge_is_memory_and_disk_of_the_same_round() {
        let mut results = Results::default();
        for (round, cpu) in [(0, 1.0), (1, 2.0), (2, 3.0)] {
            results.add(Column::Push256, round, sample(100_000, cpu, 1.0));
        }
        results.add(Column::SqlitePush, 1, sample(100_000, 1.3, 1.0));
        let figures = results.figures();
        let merge = &figures["merge_cpu"];
        assert!(merge.n == 1 && (merge.value - 33.0).abs() < 1e-9, "{merge:?}");
        let cheaper = &figures["merge_cheaper_than_column_crdt"];
        assert!((cheaper.value - 5.0).abs() < 1e-9 && cheaper.goal.is_some(), "{cheaper:?}");
    }

    #[test]
    fn what_the_program_says_is_read_and_what_it_does_not_know_is_not() {
        let told = r#"{"rows":4,"cpu":0.5,"wall":1,"octets":1200,"weight":960,"version":"1","sqlite":"3"}"#;
        let sample: Sample = serde_json::from_str(told).unwrap();
        let mut results = Results::default();
        results.add(Column::Memory, 0, sample);
        let figures = results.figures();
        assert_eq!((figures["memory_per_row"].value, figures["memory_over_weight"].value), (300.0, 1.25));
        assert!(serde_json::from_str::<Sample>(&told.replace("rows", "lines")).is_err());
    }
}
