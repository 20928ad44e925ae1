//! Problems of a configuration: each with its path, place, message and hint, all at once.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// More problems than this are counted, not kept.
pub const MOST: usize = 200;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the configuration: `bgp.neighbors[1].asn`; empty for the file as a whole.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// All problems of one file, by line and column.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Problems {
    /// The file as it was named; empty where the text came from no file.
    file: String,
    problems: Vec<Problem>,
    /// How many were not kept.
    more: usize,
}

impl Problems {
    /// No problems yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The problems in order.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.problems
    }

    /// How many there are, kept or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.problems.len() + self.more
    }

    /// Whether all is well.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Names the file they are in.
    #[must_use]
    pub fn in_file(mut self, file: &Path) -> Self {
        self.file = file.display().to_string();
        self
    }

    /// Writes one down, in its place by line and column; beyond [`MOST`] it is only counted.
    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.len() == MOST {
            self.more += 1;
            return;
        }
        let place = (problem.line, problem.column);
        let at = self.problems.partition_point(|known| (known.line, known.column) <= place);
        self.problems.insert(at, problem);
    }
}

impl fmt::Display for Problems {
    /// `FILE:LINE:COLUMN: path: message`, and the hint on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if !self.file.is_empty() {
                write!(f, "{}:", self.file)?;
            }
            write!(f, "{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        write!(f, "\n    hint: {}", self.hint)
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, message: &str) -> Problem {
        Problem { path: "a.b".into(), line, column: 3, message: message.into(), hint: "mend it".into() }
    }

    #[test]
    fn problems_stand_in_the_order_of_the_file() {
        let mut problems = Problems::new();
        for line in [9, 2, 5] {
            problems.add(problem(line, "wrong"));
        }
        let lines: Vec<_> = problems.list().iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 5, 9]);
    }

    #[test]
    fn more_than_the_most_are_counted_only() {
        let mut problems = Problems::new();
        for line in 0..MOST + 7 {
            problems.add(problem(line, "wrong"));
        }
        assert_eq!(problems.list().len(), MOST);
        assert_eq!(problems.count(), MOST + 7);
        assert!(problems.to_string().ends_with("and 7 more"));
    }

    #[test]
    fn a_problem_names_file_place_path_and_hint() {
        let mut problems = Problems::new();
        problems.add(Problem { hint: "do that".into(), ..problem(4, "wrong") });
        let shown = problems.in_file(Path::new("pop.yaml")).to_string();
        assert_eq!(shown, "pop.yaml:4:3: a.b: wrong\n    hint: do that");
    }
}
