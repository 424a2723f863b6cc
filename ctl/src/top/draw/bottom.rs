//! The last row, and the list of keys.

use ratatui::{
    layout::Rect,
    text::{Line, Span},
};

use super::{
    cut,
    grid::{Pen, shifted},
};
use crate::top::{
    keys::KEYS,
    screen::{Kind, Screen},
};

/// What can be pressed, or what is being typed.
pub(super) fn draw(screen: &Screen, area: Rect, pen: &mut Pen<'_>) {
    let look = pen.look;
    if let Some(typed) = &screen.typed {
        let line = Line::from(vec![
            Span::styled("/", look.strong()),
            Span::raw(typed.clone()),
            Span::styled(" ", look.selected()),
            Span::styled("  Enter keeps it, Esc shows all", look.quiet()),
        ]);
        pen.line(shifted(area, 1), &line);
        return;
    }
    let closer = match screen.page().kind {
        Kind::Limits | Kind::Node(_) => "limit",
        Kind::Nodes | Kind::Limit(_) => "node",
    };
    let back = (screen.pages.len() > 1).then_some(("Esc", "back"));
    let keys = [("Enter", closer)].into_iter().chain(back).chain([
        ("s", "sort"),
        ("/", "filter"),
        ("n", "nodes"),
        ("p", if screen.is_paused { "go on" } else { "pause" }),
        ("?", "keys"),
        ("q", "quit"),
    ]);
    let mut line = Line::default();
    for (key, what) in keys {
        line.push_span(Span::styled(key, look.strong()));
        line.push_span(Span::styled(format!(" {what}  "), look.quiet()));
    }
    pen.line(shifted(area, 1), &line);
}

/// Every key.
pub(super) fn help(screen: &Screen, area: Rect, pen: &mut Pen<'_>) {
    let look = screen.look;
    let (title, mut rest) = cut(area, 1);
    pen.heading(title, "keys", "any key goes back");
    let marks = [
        ("!", "a limit whose promise is broken; a node that is gone"),
        ("v", "a limit that drops now"),
        ("f", "on the floor: half of the nodes or more; this node"),
        ("s", "shadow mode: it counts, and drops nothing"),
        ("*", "the node that leads"),
    ];
    for (key, what) in KEYS {
        let (row, below) = cut(rest, 1);
        pen.text(shifted(row, 2), key, look.strong());
        pen.text(shifted(row, 24), what, look.quiet());
        rest = below;
    }
    let (title, mut rest) = cut(rest, 1);
    pen.heading(title, "marks", "");
    for (mark, what) in marks {
        let (row, below) = cut(rest, 1);
        pen.text(shifted(row, 2), mark, look.strong());
        pen.text(shifted(row, 24), what, look.quiet());
        rest = below;
    }
}
