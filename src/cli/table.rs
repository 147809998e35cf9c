//! Tables for people: as wide as needed, never wider than the terminal. The widest columns of text give way first.

use super::format::{cut, printable};

/// To which side a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; what came from elsewhere is made printable.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows
            .push(cells.into_iter().map(|cell| printable(cell.as_ref())).collect());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, the headings first, none longer than `width`.
    pub fn lines(&self, width: usize) -> Vec<String> {
        let widths = self.widths(width);
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        std::iter::once(&headings)
            .chain(&self.rows)
            .map(|cells| {
                let mut line = String::new();
                for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                    let cell = cut(cell, *width);
                    let gap = " ".repeat(width - cell.chars().count());
                    match align {
                        Align::Left => line.extend([cell.as_str(), gap.as_str()]),
                        Align::Right => line.extend([gap.as_str(), cell.as_str()]),
                    }
                    line.push_str(GAP);
                }
                line.truncate(line.trim_end().len());
                line
            })
            .collect()
    }

    fn widths(&self, most: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(index));
                let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                longest.max(name.chars().count())
            })
            .collect();
        let gaps = GAP.len() * self.columns.len().saturating_sub(1);
        let mut over = (widths.iter().sum::<usize>() + gaps).saturating_sub(most);
        while over > 0 {
            // A number that is cut would be another number, so only text gives way, down to a few letters.
            let widest = widths
                .iter_mut()
                .zip(&self.columns)
                .filter(|(width, (_, align))| *align == Align::Left && **width > NARROWEST)
                .map(|(width, _)| width)
                .max();
            let Some(width) = widest else { break };
            *width -= 1;
            over -= 1;
        }
        widths
    }
}

const GAP: &str = "  ";
const NARROWEST: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits() {
        let mut table = Table::new(&[("RUN", Align::Left), ("TITLE", Align::Left), ("ROWS", Align::Right)]);
        table.row(["01k1", "Churn", "12"]);
        table.row(["01k2", "A title\u{1b} that goes on and on for ever", "1,234,567"]);
        assert_eq!(
            table.lines(40),
            [
                "RUN   TITLE                         ROWS",
                "01k1  Churn                           12",
                "01k2  A title\u{fffd} that goes on…   1,234,567",
            ]
        );
        assert_eq!(table.lines(200)[0].chars().count(), 4 + 2 + 37 + 2 + 9);
        assert!(table.lines(10)[2].ends_with("1,234,567"), "numbers are never cut");
    }
}
