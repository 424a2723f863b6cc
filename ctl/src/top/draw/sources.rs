//! The heaviest sources.

use ratatui::{layout::Rect, text::Line};

use super::{
    cut,
    grid::{Column, Grid, Pen},
    indented,
    limits::dropped,
};
use crate::{number::short, top::screen::Screen, view::Source};

const COLUMNS: [Column; 3] = [
    Column::text("SOURCE", 12, 43, 0),
    Column::number("OFFERED", 7, 0),
    Column::number("DROPPED", 7, 1),
];

/// Who sends most to a limit, as the answering node sees it.
pub(super) fn draw(screen: &Screen, limit: &str, area: Rect, pen: &mut Pen<'_>) {
    let look = pen.look;
    let Some(overview) = &screen.overview else {
        return;
    };
    let sources = overview.sources.iter();
    let sources: Vec<&Source> = sources.filter(|source| source.limit == limit).collect();
    let (heading, rest) = cut(area, 1);
    pen.heading(heading, &format!("sources at {}", overview.node.name), "");
    if sources.is_empty() {
        pen.text(indented(rest), "none seen", look.quiet());
        return;
    }
    let grid = Grid {
        columns: &COLUMNS,
        rows: sources.len(),
        cursor: None,
        sorted: None,
    };
    pen.grid(rest, &grid, |row, title, _| {
        let source = &sources[row].source;
        match title {
            "SOURCE" if source.leased.is_some() => Line::raw(format!("{} hot", source.source)),
            "SOURCE" => Line::raw(source.source.clone()),
            "OFFERED" => Line::raw(format!("~{}", short(source.offered))),
            _ if source.dropped > 0.0 => {
                let line = dropped(source.dropped, look);
                Line::styled(format!("~{line}"), look.warning())
            }
            _ => dropped(0.0, look),
        }
    });
}
