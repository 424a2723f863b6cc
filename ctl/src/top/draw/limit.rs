//! One limit: its past, every node's share, its heaviest sources.

use ratatui::{
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    COLUMNS_FOR_TWO, ROWS_FOR_PARTS, cut,
    grid::{Pen, shifted},
    indented, nodes, per_second, sources, split,
    trend::chart,
};
use crate::{
    number::{for_each, short},
    top::{history::Tick, look::Look, screen::Screen},
    view::LimitState,
};

/// What is drawn of the past.
type Of = fn(&Tick) -> f32;
/// Columns for the name and the number beside a chart.
const LEGEND: u16 = 17;

pub(super) fn draw(screen: &Screen, name: &str, area: Rect, pen: &mut Pen<'_>) {
    let look = pen.look;
    let (facts, rest) = cut(area, 1);
    let Some(state) = screen.limit(name) else {
        let text = format!("there is no limit \"{name}\" in force");
        pen.text(indented(facts), &text, look.bad());
        return;
    };
    pen.line(indented(facts), &described(state, look));
    let height = match rest.height {
        ..ROWS_FOR_PARTS => 0,
        ROWS_FOR_PARTS..30 => 2,
        _ => 4,
    };
    let (charts, rest) = cut(rest, height * 3);
    past(screen, state, (charts, height), pen);
    let cursor = Some(screen.cursor());
    if rest.width < COLUMNS_FOR_TWO {
        nodes::draw_shares(screen, name, cursor, rest, pen);
    } else {
        let (left, right) = split(rest, rest.width * 3 / 5);
        nodes::draw_shares(screen, name, cursor, left, pen);
        sources::draw(screen, name, right, pen);
    }
}

fn described(state: &LimitState, look: Look) -> Line<'static> {
    let limit = &state.limit;
    let is_keyed = limit.per.is_some();
    let per = limit
        .per
        .map(|key| format!(" per {key}"))
        .unwrap_or_default();
    let mut spans = vec![
        Span::styled(limit.name.clone(), look.strong()),
        Span::raw(format!(
            "  {} {}{per}  {} {}, burst {}  ",
            limit.promise,
            limit.mode,
            for_each(limit.rate, is_keyed),
            per_second(limit.unit),
            for_each(limit.burst, is_keyed),
        )),
    ];
    spans.push(match (state.promise_kept, state.nodes_failing_open) {
        (true, _) => Span::styled("kept", look.good()),
        (false, 0) => Span::styled("BROKEN: above its budget", look.bad()),
        (false, open) => Span::styled(format!("BROKEN: {open} nodes OPEN"), look.bad()),
    });
    if state.nodes_on_floor > 0 {
        let text = format!("  {} on floor", state.nodes_on_floor);
        spans.push(Span::styled(text, look.warning()));
    }
    Line::from(spans)
}

fn past(screen: &Screen, state: &LimitState, (area, height): (Rect, u16), pen: &mut Pen<'_>) {
    if height == 0 {
        return;
    }
    let look = pen.look;
    let width = area.width.saturating_sub(LEGEND + 1);
    let ticks = screen.history.of(&state.limit.name, usize::from(width));
    // All three at one scale, so that they can be compared.
    let most = ticks.iter().map(|tick| tick.offered).fold(0.0, f32::max);
    let limit = &state.limit;
    let charts: [(&str, f64, Of, Style); 3] = [
        ("offered", limit.offered, |tick| tick.offered, look.accent()),
        (
            "admitted",
            limit.admitted,
            |tick| tick.admitted,
            look.good(),
        ),
        (
            "dropped",
            limit.dropped,
            |tick| tick.dropped,
            look.warning(),
        ),
    ];
    let mut rest = area;
    for (name, now, of, style) in charts {
        let (mut rows, below) = cut(rest, height);
        rest = below;
        let legend = format!("{name:<9}{:>6}", short(now));
        let last = Rect {
            y: rows.y + rows.height.saturating_sub(1),
            height: rows.height.min(1),
            ..rows
        };
        pen.text(indented(last), &legend, Style::new());
        for line in chart(&ticks, of, (width, height), (most, style), look) {
            let (row, below) = cut(rows, 1);
            pen.line(shifted(row, LEGEND), &line);
            rows = below;
        }
    }
}
