//! Text tables for terminals, and the numbers in them in units that people read.

use std::fmt::Write as _;

/// Which side of its column a cell stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

/// A table whose columns are as wide as their widest cell.
pub(super) struct Table {
    columns: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles; numbers stand right.
    pub(super) fn new(columns: &[(&str, Side)]) -> Self {
        let titles = columns.iter().map(|(title, _)| title.to_uppercase()).collect();
        Self { columns: columns.iter().map(|&(_, side)| side).collect(), rows: vec![titles] }
    }

    /// Adds a row. What would move the terminal's cursor is replaced.
    pub(super) fn row<const CELLS: usize>(&mut self, cells: [&str; CELLS]) {
        debug_assert_eq!(CELLS, self.columns.len(), "a row has a cell for each column");
        let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        self.rows.push(cells.iter().map(|cell| cell.chars().map(printable).collect()).collect());
    }

    /// Writes the table, nothing when it has no rows.
    pub(super) fn write(&self, to: &mut String) {
        if self.rows.len() == 1 {
            return;
        }
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, side), width) in row.iter().zip(&self.columns).zip(&widths) {
                // Writing to a string does not fail.
                let _ = match side {
                    Side::Left => write!(line, "{cell:<width$}  "),
                    Side::Right => write!(line, "{cell:>width$}  "),
                };
            }
            to.push_str(line.trim_end());
            to.push('\n');
        }
    }
}

/// A number of bytes in decimal units, three digits or more.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A number of seconds in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[("name", Side::Left), ("n", Side::Right), ("x", Side::Left)]);
        table.row(["a", "1", "first"]);
        table.row(["blue", "1000", ""]);
        let mut text = String::new();
        table.write(&mut text);
        assert_eq!(text, "NAME     N  X\na        1  first\nblue  1000\n");
    }

    #[test]
    fn a_table_without_rows_is_not_written() {
        let mut text = String::new();
        Table::new(&[("name", Side::Left)]).write(&mut text);
        assert_eq!(text, "");
    }

    #[test]
    fn a_cell_cannot_move_the_cursor() {
        let mut table = Table::new(&[("name", Side::Left)]);
        table.row(["a\u{1b}[2J\nb"]);
        let mut text = String::new();
        table.write(&mut text);
        assert_eq!(text, "NAME\na\u{fffd}[2J\u{fffd}b\n");
    }

    #[test]
    fn units_follow_the_size() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(999_999), "999.9 kB");
        assert_eq!(bytes(52_000_000), "52.0 MB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(61), "1 min 1 s");
        assert_eq!(span(7260), "2 h 1 min");
        assert_eq!(span(93_784), "1 d 2 h");
    }
}
