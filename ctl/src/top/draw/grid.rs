//! Aligned columns on a terminal: as many as there is room for.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use crate::top::look::Look;

/// Between two columns.
const GAP: u16 = 2;
/// Before the first.
const MARGIN: u16 = 1;

/// Where things are drawn, and with what.
pub(super) struct Pen<'b> {
    buffer: &'b mut Buffer,
    pub(super) look: Look,
}

/// One column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    least: u16,
    most: u16,
    is_right: bool,
    /// Where there is no room, those with the largest go first; with 0 never.
    rank: u8,
}

impl Column {
    /// Text, at least and at most so wide.
    pub(super) const fn text(title: &'static str, least: u16, most: u16, rank: u8) -> Self {
        Self {
            title,
            least,
            most,
            is_right: false,
            rank,
        }
    }

    /// A number.
    pub(super) const fn number(title: &'static str, width: u16, rank: u8) -> Self {
        Self {
            title,
            least: width,
            most: width,
            is_right: true,
            rank,
        }
    }
}

/// A table: cells are made only of rows that are seen, and only as wide as they are seen.
pub(super) struct Grid<'c> {
    pub(super) columns: &'c [Column],
    /// How many rows there are.
    pub(super) rows: usize,
    /// Which of them is the cursor's.
    pub(super) cursor: Option<usize>,
    /// The title of the column that rows are in order of, and whether it is turned round.
    pub(super) sorted: Option<(&'static str, bool)>,
}

impl<'b> Pen<'b> {
    pub(super) const fn new(buffer: &'b mut Buffer, look: Look) -> Self {
        Self { buffer, look }
    }

    /// Text on the first row of an area; what does not fit is left out.
    pub(super) fn text(&mut self, area: Rect, text: &str, style: Style) {
        self.line(area, &Line::styled(text.to_owned(), style));
    }

    /// The same, of several styles.
    pub(super) fn line(&mut self, area: Rect, line: &Line<'_>) {
        if area.height > 0 && area.width > 0 {
            self.buffer.set_line(area.x, area.y, line, area.width);
        }
    }

    /// A rule across an area, with a title in it and a note at its end.
    pub(super) fn heading(&mut self, area: Rect, title: &str, note: &str) {
        if area.height == 0 {
            return;
        }
        let look = self.look;
        self.text(
            area,
            &look.line().repeat(usize::from(area.width)),
            look.quiet(),
        );
        let title = shortened(title, area.width.saturating_sub(4), look);
        let room = area.width.saturating_sub(width_of(&title) + 6);
        self.line(
            shifted(area, 1),
            &Line::styled(format!(" {title} "), look.strong()),
        );
        let note = format!(" {note} ");
        if note.len() > 2 && width_of(&note) <= room {
            let x = area.width - width_of(&note) - 1;
            self.text(shifted(area, x), &note, look.quiet());
        }
    }

    /// A table with its titles. `cell` is asked for a row, a column's title, and how wide it is.
    pub(super) fn grid<'l>(
        &mut self,
        area: Rect,
        grid: &Grid<'_>,
        mut cell: impl FnMut(usize, &'static str, u16) -> Line<'l>,
    ) {
        if area.height == 0 {
            return;
        }
        let columns = fit(grid.columns, area.width.saturating_sub(MARGIN));
        self.titles(area, grid, &columns);
        let height = usize::from(area.height - 1);
        // A page at a time: rows stand still while the cursor moves among them.
        let page = grid.cursor.unwrap_or(0) / height.max(1);
        for (y, row) in (page * height..grid.rows).take(height).enumerate() {
            let line = Rect {
                y: area.y + 1 + y as u16,
                height: 1,
                ..area
            };
            for (column, x, width) in &columns {
                let cell = cell(row, column.title, *width);
                self.cell(line, column, (*x, *width), &cell);
            }
            if grid.cursor == Some(row) {
                self.buffer.set_style(line, self.look.selected());
            }
        }
    }

    fn titles(&mut self, area: Rect, grid: &Grid<'_>, columns: &[(Column, u16, u16)]) {
        let look = self.look;
        for (column, x, width) in columns {
            let mut title = column.title.to_owned();
            let mut style = look.quiet();
            if let Some((_, is_reversed)) = grid.sorted.filter(|(by, _)| *by == column.title) {
                let arrow = look.arrow(is_reversed);
                style = look.strong();
                title = if column.is_right {
                    format!("{arrow}{title}")
                } else {
                    format!("{title}{arrow}")
                };
            }
            // An arrow may stand in the gap.
            let more = width_of(&title).saturating_sub(*width).min(GAP - 1);
            let (x, width) = match column.is_right {
                true => (x.saturating_sub(more), width + more),
                false => (*x, width + more),
            };
            let title = Line::from(Span::styled(title, style));
            self.cell(area, column, (x, width), &title);
        }
    }

    fn cell(&mut self, row: Rect, column: &Column, (x, width): (u16, u16), cell: &Line<'_>) {
        let wide = u16::try_from(cell.width()).unwrap_or(u16::MAX);
        let indent = if column.is_right {
            width.saturating_sub(wide)
        } else {
            0
        };
        let x = row.x + MARGIN + x + indent;
        self.buffer.set_line(x, row.y, cell, width.min(wide));
        if wide > width && width > 0 {
            let end = self.buffer.cell_mut((x + width - 1, row.y));
            if let Some(end) = end {
                end.set_char(self.look.more());
            }
        }
    }
}

/// The columns that fit, where each begins, and how wide it is.
fn fit(columns: &[Column], width: u16) -> Vec<(Column, u16, u16)> {
    let mut kept: Vec<Column> = columns.to_vec();
    let needed = |kept: &[Column]| -> u16 {
        let gaps = GAP * (kept.len().saturating_sub(1) as u16);
        kept.iter().map(|column| column.least).sum::<u16>() + gaps
    };
    while needed(&kept) > width {
        let Some(worst) = kept.iter().map(|column| column.rank).max() else {
            break;
        };
        if worst == 0 {
            break;
        }
        let at = kept.iter().rposition(|column| column.rank == worst);
        kept.remove(at.expect("one has the largest rank"));
    }
    let mut spare = width.saturating_sub(needed(&kept));
    let mut x = 0;
    let mut placed = Vec::with_capacity(kept.len());
    for column in kept {
        let more = spare.min(column.most - column.least);
        spare -= more;
        let wide = (column.least + more).min(width.saturating_sub(x));
        placed.push((column, x, wide));
        x = x.saturating_add(wide + GAP).min(width);
    }
    placed
}

/// An area without its first columns.
pub(super) fn shifted(area: Rect, columns: u16) -> Rect {
    let columns = columns.min(area.width);
    Rect {
        x: area.x + columns,
        width: area.width - columns,
        ..area
    }
}

pub(super) fn width_of(text: &str) -> u16 {
    u16::try_from(Span::raw(text).width()).unwrap_or(u16::MAX)
}

/// A text of at most so many characters.
pub(super) fn shortened(text: &str, most: u16, look: Look) -> String {
    let most = usize::from(most);
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = text.chars().take(most.saturating_sub(1));
    kept.chain([look.more()]).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("LIMIT", 10, 30, 0),
        Column::number("RATE", 6, 0),
        Column::number("USED", 6, 2),
        Column::text("TREND", 8, 40, 1),
    ];

    fn fitted(width: u16) -> Vec<(&'static str, u16, u16)> {
        let placed = fit(&COLUMNS, width).into_iter();
        placed
            .map(|(column, x, width)| (column.title, x, width))
            .collect()
    }

    #[test]
    fn columns_go_by_rank_and_what_is_left_is_given_to_those_that_grow() {
        assert_eq!(
            fitted(40),
            [
                ("LIMIT", 0, 14),
                ("RATE", 16, 6),
                ("USED", 24, 6),
                ("TREND", 32, 8)
            ]
        );
        assert_eq!(
            fitted(30),
            [("LIMIT", 0, 12), ("RATE", 14, 6), ("TREND", 22, 8)]
        );
        assert_eq!(fitted(18), [("LIMIT", 0, 10), ("RATE", 12, 6)]);
        assert_eq!(fitted(80)[3], ("TREND", 48, 32));
        assert_eq!(fitted(5), [("LIMIT", 0, 5), ("RATE", 5, 0)], "and no panic");
    }
}
