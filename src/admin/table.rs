//! Aligned columns for people.

use std::fmt;

/// Two spaces between columns are enough for the eye and for `awk`.
const GAP: usize = 2;

/// Rows under a heading, each column as wide as its widest cell.
#[derive(Debug, Clone)]
pub struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { heading: heading.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row. An empty cell is shown as `-`, control characters as spaces.
    pub fn row<const N: usize>(&mut self, cells: [&str; N]) {
        let clean = |cell: &str| {
            let cell: String = cell.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            if cell.is_empty() { "-".to_owned() } else { cell }
        };
        self.rows.push(cells.map(clean).to_vec());
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.heading).chain(&self.rows);
        let width = |column: usize| {
            lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.heading.len()).map(width).collect();
        for line in lines() {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count()));
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_not_bytes() {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.row(["é", "up", "all is\nwell"]);
        table.row(["transit-a", "", "x"]);
        assert_eq!(
            table.to_string(),
            "NAME       STATE  WHY\n\
             é          up     all is well\n\
             transit-a  -      x\n"
        );
    }
}
