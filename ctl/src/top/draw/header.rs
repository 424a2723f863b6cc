//! The uppermost rows: the fleet.

use ratatui::{
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    cut,
    grid::{Pen, shifted, width_of},
};
use crate::{
    number::span,
    top::{look::Look, screen::Screen},
    view::Overview,
};

/// So many rows it takes.
pub(super) fn rows(screen: &Screen) -> u16 {
    2 + u16::from(alarm(screen).is_some())
}

/// Who leads and whether promises hold; and what needs somebody.
pub(super) fn draw(screen: &Screen, area: Rect, pen: &mut Pen<'_>) {
    let look = pen.look;
    let (first, rest) = cut(area, 1);
    let (second, third) = cut(rest, 1);
    let state = state(screen);
    let room = first.width.saturating_sub(width_of(&state) + 3);
    if let Some(overview) = &screen.overview {
        pen.line(
            shifted(first, 1),
            &joined(coordination(overview, look), room, look),
        );
        pen.line(
            shifted(second, 1),
            &joined(health(overview, look), second.width, look),
        );
    } else {
        pen.text(shifted(first, 1), "weir", look.strong());
    }
    let right = first.width.saturating_sub(width_of(&state) + 1);
    pen.text(shifted(first, right), &state, look.quiet());
    if let Some((text, style)) = alarm(screen) {
        pen.text(shifted(third, 1), &text, style);
    }
}

fn state(screen: &Screen) -> String {
    let name = screen.overview.as_ref().map(|overview| &overview.node.name);
    let name = name.map_or("", String::as_str);
    let pace = if screen.is_paused {
        String::from("PAUSED")
    } else {
        let interval = u64::try_from(screen.interval.as_millis()).unwrap_or(u64::MAX);
        format!("every {}", span(interval))
    };
    format!("{name} {pace}")
}

/// What somebody has to do something about.
fn alarm(screen: &Screen) -> Option<(String, Style)> {
    let look = screen.look;
    if let Some(trouble) = &screen.trouble {
        return Some((format!("NO ANSWER: {trouble}"), look.bad()));
    }
    let overview = screen.overview.as_ref()?;
    if overview.leader.is_none() && overview.zookeeper.is_some() {
        let text = "no leader: nodes fall to their floors, and numbers are those of one node";
        return Some((text.to_owned(), look.bad()));
    }
    let trial = overview.trial?;
    Some((
        format!(
            "version {} goes back in {} unless `weir confirm` is said",
            trial.version,
            span(trial.confirm_within_ms)
        ),
        look.warning(),
    ))
}

fn coordination(overview: &Overview, look: Look) -> Vec<Vec<Span<'static>>> {
    let leader = match (&overview.leader, &overview.zookeeper) {
        (Some(leader), Some(_)) => vec![
            Span::raw("leader "),
            Span::styled(leader.name.clone(), look.strong()),
            Span::raw(format!(" term {}", overview.term)),
        ],
        (None, Some(_)) => vec![Span::styled("NO LEADER", look.bad())],
        (_, None) => vec![Span::raw("one host, no ZooKeeper")],
    };
    let zookeeper = overview.zookeeper.as_ref().map(|zookeeper| {
        let since = span(zookeeper.since_ms);
        let (state, style) = if zookeeper.connected {
            ("up", look.good())
        } else {
            ("DOWN", look.bad())
        };
        vec![
            Span::raw("zookeeper "),
            Span::styled(state, style),
            Span::raw(format!(" {since}")),
        ]
    });
    let policy = match overview.policy_version {
        0 => vec![Span::styled("no policy", look.warning())],
        version => vec![Span::raw(format!("policy {version}"))],
    };
    [Some(leader), zookeeper, Some(policy)]
        .into_iter()
        .flatten()
        .collect()
}

fn health(overview: &Overview, look: Look) -> Vec<Vec<Span<'static>>> {
    let members = overview.members.len();
    let gone = overview
        .members
        .iter()
        .filter(|member| !member.live)
        .count();
    let floor = overview
        .members
        .iter()
        .filter(|member| member.on_floor)
        .count();
    let limits = overview.limits.len();
    let broken = overview
        .limits
        .iter()
        .filter(|limit| !limit.promise_kept)
        .count();
    let dropping = overview
        .limits
        .iter()
        .filter(|state| state.limit.dropped > 0.0)
        .count();
    let pending = overview
        .limits
        .iter()
        .map(|limit| limit.pending)
        .max()
        .unwrap_or(0);
    let counted = |count: usize, what: &str, style: Style| {
        (count > 0).then(|| vec![Span::styled(format!("{count} {what}"), style)])
    };
    [
        Some(vec![
            Span::raw("promises "),
            if broken == 0 {
                Span::styled("all kept", look.good())
            } else {
                Span::styled(format!("{broken} BROKEN"), look.bad())
            },
        ]),
        Some(vec![Span::raw(format!("{members} nodes"))]),
        counted(gone, "gone", look.bad()),
        counted(floor, "on floor", look.warning()),
        counted(pending as usize, "without this policy", look.warning()),
        Some(vec![Span::raw(format!("{limits} limits"))]),
        counted(dropping, "dropping", look.warning()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// As many of these as fit, in this order.
fn joined(items: Vec<Vec<Span<'static>>>, room: u16, look: Look) -> Line<'static> {
    let mut line = Line::default();
    for item in items {
        let item = Line::from(item);
        let dot = if line.spans.is_empty() {
            ""
        } else {
            look.dot()
        };
        if line.width() + dot.chars().count() + item.width() > usize::from(room) {
            break;
        }
        line.push_span(Span::styled(dot, look.quiet()));
        for span in item.spans {
            line.push_span(span);
        }
    }
    line
}
