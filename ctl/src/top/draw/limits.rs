//! The first page: all limits, and of the selected one nodes and sources.

use ratatui::{
    layout::Rect,
    text::{Line, Span},
};

use super::{
    COLUMNS_FOR_TWO, ROWS_FOR_PARTS, cut,
    grid::{Column, Grid, Pen},
    nodes, per_second, sources, split,
    trend::spark,
};
use crate::{
    number::{for_each, short},
    top::{
        look::Look,
        screen::{Screen, Sort, part},
    },
    view::LimitState,
};

const COLUMNS: [Column; 14] = [
    Column::text("", 1, 1, 0),
    Column::text("LIMIT", 16, 40, 0),
    Column::number("BUDGET", 8, 0),
    Column::number("OFFERED", 7, 0),
    Column::number("ADMITTED", 8, 2),
    Column::number("DROPPED", 7, 0),
    Column::text("UNIT", 6, 6, 3),
    Column::text("TREND", 12, 60, 1),
    Column::number("USED", 6, 4),
    Column::text("PROMISE", 7, 7, 5),
    Column::text("MODE", 7, 7, 6),
    Column::number("ON FLOOR", 8, 7),
    Column::number("BURST", 9, 8),
    Column::text("PER", 12, 12, 9),
];

/// Lower parts get this share of the rows, of a hundred.
const LOWER_PERCENT: u16 = 40;

pub(super) fn draw(screen: &Screen, area: Rect, pen: &mut Pen<'_>) {
    let lower = if area.height < ROWS_FOR_PARTS {
        0
    } else {
        area.height * LOWER_PERCENT / 100
    };
    let (upper, lower) = cut(area, area.height - lower);
    table(screen, upper, pen);
    let Some(name) = screen.selected() else {
        return;
    };
    let halves = if lower.width < COLUMNS_FOR_TWO {
        (lower, Rect::default())
    } else {
        split(lower, lower.width * 3 / 5)
    };
    nodes::draw_shares(screen, name, None, halves.0, pen);
    sources::draw(screen, name, halves.1, pen);
}

fn table(screen: &Screen, area: Rect, pen: &mut Pen<'_>) {
    let listed = screen.listed();
    let limits = screen
        .overview
        .as_ref()
        .map_or(&[][..], |overview| &overview.limits);
    let (heading, rest) = cut(area, 1);
    pen.heading(heading, "limits", &note(screen, listed.len(), limits.len()));
    if listed.is_empty() {
        let text = if limits.is_empty() {
            "no limits; put some in force with `weir apply FILE`"
        } else {
            "no limit has such a name; Esc shows all"
        };
        pen.text(super::indented(rest), text, pen.look.quiet());
        return;
    }
    let grid = Grid {
        columns: &COLUMNS,
        rows: listed.len(),
        cursor: Some(screen.cursor()),
        sorted: sorted(screen, "USED"),
    };
    let look = pen.look;
    pen.grid(rest, &grid, |row, title, width| {
        cell(screen, &limits[listed[row]], title, width, look)
    });
}

/// Which column shows the order of rows.
pub(super) fn sorted(screen: &Screen, used: &'static str) -> Option<(&'static str, bool)> {
    let page = screen.page();
    let column = match page.sort {
        Sort::Given => return None,
        Sort::Name => "LIMIT",
        Sort::Used => used,
        Sort::Offered => "OFFERED",
        Sort::Admitted => "ADMITTED",
        Sort::Dropped => "DROPPED",
    };
    Some((column, page.is_reversed))
}

/// How many are shown of how many, and in which order.
pub(super) fn note(screen: &Screen, listed: usize, all: usize) -> String {
    let page = screen.page();
    let count = if all == 0 {
        String::new()
    } else {
        format!("{} of {listed}", (screen.cursor() + 1).min(listed))
    };
    let filter = match page.filter.as_str() {
        "" => String::new(),
        filter => format!(", with \"{filter}\" of {all}"),
    };
    let sort = match page.sort {
        Sort::Given if page.is_reversed => String::from(", reversed"),
        Sort::Given => String::new(),
        sort => format!(", by {}", sort.name()),
    };
    format!("{count}{filter}{sort}")
}

fn cell(screen: &Screen, state: &LimitState, title: &str, width: u16, look: Look) -> Line<'static> {
    let limit = &state.limit;
    let is_keyed = limit.per.is_some();
    let text = match title {
        "" => return mark(state, look),
        "LIMIT" if !state.promise_kept => {
            return Line::styled(limit.name.clone(), look.bad());
        }
        "LIMIT" => limit.name.clone(),
        "BUDGET" => for_each(limit.rate, is_keyed),
        "OFFERED" => short(limit.offered),
        "ADMITTED" => short(limit.admitted),
        "DROPPED" => return dropped(limit.dropped, look),
        "UNIT" => return Line::styled(per_second(limit.unit), look.quiet()),
        "TREND" => {
            let ticks = screen.history.of(&limit.name, usize::from(width));
            return spark(&ticks, width, look);
        }
        "USED" if is_keyed => String::from("-"),
        "USED" => percent(part(limit.admitted, limit.rate)),
        "PROMISE" => limit.promise.to_owned(),
        "MODE" => limit.mode.to_owned(),
        "ON FLOOR" if state.nodes_failing_open > 0 => {
            return Line::styled(format!("{} OPEN", state.nodes_failing_open), look.bad());
        }
        "ON FLOOR" if state.nodes_on_floor > 0 => {
            return Line::styled(state.nodes_on_floor.to_string(), look.warning());
        }
        "ON FLOOR" => String::from("-"),
        "BURST" => for_each(limit.burst, is_keyed),
        "PER" => limit.per.map(|key| key.to_string()).unwrap_or_default(),
        _ => String::new(),
    };
    if text == "0" || text == "-" {
        return Line::styled(text, look.quiet());
    }
    Line::raw(text)
}

/// The worst that can be said of it, as a letter.
fn mark(state: &LimitState, look: Look) -> Line<'static> {
    let (mark, style) = if !state.promise_kept {
        ("!", look.bad())
    } else if state.limit.dropped > 0.0 {
        ("v", look.warning())
    } else if state.nodes_on_floor > 0 && 2 * state.nodes_on_floor >= state.limit.nodes {
        ("f", look.warning())
    } else if state.limit.mode == "shadow" {
        ("s", look.quiet())
    } else {
        (" ", look.quiet())
    };
    Line::from(Span::styled(mark, style))
}

/// Something, or nothing.
pub(super) fn dropped(rate: f64, look: Look) -> Line<'static> {
    let style = if rate > 0.0 {
        look.warning()
    } else {
        look.quiet()
    };
    Line::styled(short(rate), style)
}

pub(super) fn percent(part: f64) -> String {
    if part > 9.99 {
        format!("x{:.0}", part.min(9_999.0))
    } else {
        format!("{:.0} %", part * 100.0)
    }
}
