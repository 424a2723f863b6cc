//! How the screen looks. Made for 80 columns and 24 rows; with less, columns and parts are left out,
//! with more they are added.

mod bottom;
mod grid;
mod header;
mod limit;
mod limits;
mod nodes;
mod sources;
mod trend;

use ratatui::{Frame, layout::Rect};

use self::grid::Pen;
use super::screen::{Kind, Screen};

/// Rows below which only the table is shown.
const ROWS_FOR_PARTS: u16 = 16;
/// Columns from which on two tables stand side by side.
const COLUMNS_FOR_TWO: u16 = 72;

/// Draws everything.
pub(crate) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut pen = Pen::new(frame.buffer_mut(), screen.look);
    let (head, rest) = cut(area, header::rows(screen));
    let (body, foot) = cut(rest, rest.height.saturating_sub(1));
    header::draw(screen, head, &mut pen);
    if screen.overview.is_none() {
        pen.text(
            indented(body),
            "waiting for the first answer",
            screen.look.quiet(),
        );
    } else if screen.is_helping {
        bottom::help(screen, body, &mut pen);
    } else {
        match &screen.page().kind {
            Kind::Limits => limits::draw(screen, body, &mut pen),
            Kind::Limit(name) => limit::draw(screen, name, body, &mut pen),
            Kind::Nodes => nodes::draw_members(screen, body, &mut pen),
            Kind::Node(name) => nodes::draw_node(screen, name, body, &mut pen),
        }
    }
    bottom::draw(screen, foot, &mut pen);
}

/// The upper rows, and the others.
fn cut(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    let upper = Rect {
        height: rows,
        ..area
    };
    let lower = Rect {
        y: area.y + rows,
        height: area.height - rows,
        ..area
    };
    (upper, lower)
}

/// The left columns, and the others behind a gap.
fn split(area: Rect, columns: u16) -> (Rect, Rect) {
    const GAP: u16 = 2;
    let columns = columns.min(area.width);
    let left = Rect {
        width: columns,
        ..area
    };
    let gap = GAP.min(area.width - columns);
    let right = Rect {
        x: area.x + columns + gap,
        width: area.width - columns - gap,
        ..area
    };
    (left, right)
}

fn indented(area: Rect) -> Rect {
    let by = 1.min(area.width);
    Rect {
        x: area.x + by,
        width: area.width - by,
        ..area
    }
}

/// What a token is, short.
fn per_second(unit: &str) -> &'static str {
    match unit {
        "packets" => "pkt/s",
        "bits" => "bit/s",
        "connections" => "conn/s",
        _ => "/s",
    }
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
