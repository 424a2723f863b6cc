//! Aligned columns for people.

use std::{env, fmt, io::IsTerminal as _};

/// Between two columns.
const GAP: &str = "  ";

/// How a cell is to look, where the output can show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Bad,
    Changed,
    Quiet,
}

impl Tone {
    const fn escape(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[1;31m",
            Self::Changed => "\x1b[33m",
            Self::Quiet => "\x1b[2m",
        }
    }
}

/// Whether standard output shows colours: a terminal does, unless `NO_COLOR` is set.
pub(crate) fn output_has_colour() -> bool {
    std::io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The text of one cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }

    /// The text, in its colour if there are colours.
    pub(crate) fn shown(&self, has_colour: bool) -> String {
        let Self { text, tone } = self;
        if has_colour && *tone != Tone::Plain {
            format!("{}{text}\x1b[0m", tone.escape())
        } else {
            text.clone()
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// On which side a column is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A header and rows, as wide as they need.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
    has_colour: bool,
}

impl Table {
    /// A table with these columns and no rows.
    pub(crate) fn new(columns: &[(&'static str, Align)], has_colour: bool) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
            has_colour,
        }
    }

    /// Adds a row. Cells beyond the columns are not shown; missing ones are empty.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn write_row(
        &self,
        f: &mut fmt::Formatter<'_>,
        widths: &[usize],
        cell: impl Fn(usize) -> Option<Cell>,
    ) -> fmt::Result {
        let mut line = String::new();
        // Padding is written when something follows it, so that no line ends in spaces.
        let mut pending = 0;
        for (index, ((_, align), width)) in self.columns.iter().zip(widths).enumerate() {
            let cell = cell(index).unwrap_or_else(|| Cell::from(""));
            let padding = width - cell.text.chars().count();
            if index > 0 {
                pending += GAP.len();
            }
            if *align == Align::Right {
                pending += padding;
            }
            if !cell.text.is_empty() {
                line.extend(std::iter::repeat_n(' ', pending));
                pending = 0;
                line += &cell.shown(self.has_colour);
            }
            if *align == Align::Left {
                pending += padding;
            }
        }
        writeln!(f, "{line}")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells
                .map(|cell| cell.text.chars().count())
                .chain([self.columns[index].0.chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        self.write_row(f, &widths, |index| {
            Some(Cell::new(self.columns[index].0, Tone::Quiet))
        })?;
        for row in &self.rows {
            self.write_row(f, &widths, |index| row.get(index).cloned())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(has_colour: bool) -> Table {
        let columns = [
            ("NAME", Align::Left),
            ("RATE", Align::Right),
            ("NOTE", Align::Left),
        ];
        let mut table = Table::new(&columns, has_colour);
        table.row(["µ".into(), "30.0k".into(), Cell::new("kept", Tone::Good)]);
        table.row(["long-name".into(), "7".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_in_text() {
        let expected = "NAME        RATE  NOTE\n\
                        µ          30.0k  kept\n\
                        long-name      7\n";
        assert_eq!(table(false).to_string(), expected);
    }

    #[test]
    fn colour_does_not_move_columns() {
        let coloured = table(true).to_string();
        assert!(coloured.contains("\x1b[32mkept\x1b[0m"));
        let mut plain = coloured;
        for code in ["\x1b[32m", "\x1b[2m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, table(false).to_string());
    }
}
