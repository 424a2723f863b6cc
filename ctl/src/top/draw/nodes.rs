//! Tables of nodes: all members, every node's share of a limit, and what one of them holds.

use ratatui::{layout::Rect, text::Line};

use super::{
    cut,
    grid::{Column, Grid, Pen},
    indented,
    limits::{dropped, note, percent, sorted},
    per_second,
};
use crate::{
    number::{for_each, short, span},
    top::{
        look::Look,
        screen::{Screen, part},
    },
    view::{Member, NodeLimit, NodeLimits},
};

const SHARES: [Column; 9] = [
    Column::text("", 1, 1, 0),
    Column::text("NODE", 9, 32, 0),
    Column::number("SHARE", 7, 0),
    Column::number("PART", 5, 2),
    Column::number("OFFERED", 7, 1),
    Column::number("DROPPED", 7, 3),
    Column::number("LEASE", 6, 0),
    Column::number("ADMITTED", 8, 4),
    Column::number("FLOOR", 7, 5),
];

const HELD: [Column; 9] = [
    Column::text("LIMIT", 14, 40, 0),
    Column::number("SHARE", 9, 0),
    Column::number("PART", 6, 2),
    Column::number("OFFERED", 8, 0),
    Column::number("ADMITTED", 8, 3),
    Column::number("DROPPED", 8, 0),
    Column::text("UNIT", 6, 6, 4),
    Column::number("LEASE", 6, 1),
    Column::number("FLOOR", 8, 5),
];

const MEMBERS: [Column; 6] = [
    Column::text("NODE", 14, 40, 0),
    Column::text("STATE", 6, 6, 0),
    Column::text("ROLE", 6, 6, 1),
    Column::text("SHARE", 8, 8, 0),
    Column::number("LAST REPORT", 11, 2),
    Column::text("ADDRESS", 21, 50, 3),
];

/// Every node's share of a limit; with a cursor, if it is the page's table.
pub(super) fn draw_shares(
    screen: &Screen,
    limit: &str,
    cursor: Option<usize>,
    area: Rect,
    pen: &mut Pen<'_>,
) {
    let look = pen.look;
    let shares = screen.shares(limit);
    let (heading, rest) = cut(area, 1);
    let (order, note): (Vec<usize>, String) = match cursor {
        Some(_) => {
            let listed = screen.listed();
            let note = note(screen, listed.len(), shares.len());
            (listed, note)
        }
        // Where nobody chose an order, those with most to do come first.
        None => {
            let mut order: Vec<usize> = (0..shares.len()).collect();
            order.sort_by(|a, b| shares[*b].1.offered.total_cmp(&shares[*a].1.offered));
            (order, shares.len().to_string())
        }
    };
    pen.heading(heading, &format!("nodes on {limit}"), &note);
    let grid = Grid {
        columns: &SHARES,
        rows: order.len(),
        cursor,
        sorted: cursor.and_then(|_| sorted(screen, "PART")),
    };
    pen.grid(rest, &grid, |row, title, _| {
        let (node, share) = shares[order[row]];
        share_cell(node, share, title, look)
    });
}

/// What a member holds of every limit.
pub(super) fn draw_node(screen: &Screen, name: &str, area: Rect, pen: &mut Pen<'_>) {
    let look = pen.look;
    let held = screen.held(name);
    let listed = screen.listed();
    let members = screen
        .overview
        .iter()
        .flat_map(|overview| &overview.members);
    let (facts, rest) = cut(area, 1);
    match members.clone().find(|member| member.node.name == name) {
        Some(member) => pen.text(indented(facts), &described(member), look.strong()),
        None => pen.text(
            indented(facts),
            &format!("{name} is no member any more"),
            look.bad(),
        ),
    }
    let (heading, rest) = cut(rest, 1);
    pen.heading(
        heading,
        &format!("limits on {name}"),
        &note(screen, listed.len(), held.len()),
    );
    let grid = Grid {
        columns: &HELD,
        rows: listed.len(),
        cursor: Some(screen.cursor()),
        sorted: sorted(screen, "PART"),
    };
    pen.grid(rest, &grid, |row, title, _| {
        held_cell(&held[listed[row]], title, look)
    });
}

fn described(member: &Member) -> String {
    let state = if member.live { "live" } else { "gone" };
    let role = if member.is_leader { ", leads" } else { "" };
    let policy = member.policy_version;
    let address = &member.node.address;
    format!(
        "{}  {state}{role}, policy {policy}  {address}",
        member.node.name
    )
}

/// All members.
pub(super) fn draw_members(screen: &Screen, area: Rect, pen: &mut Pen<'_>) {
    let look = pen.look;
    let members = screen
        .overview
        .as_ref()
        .map_or(&[][..], |overview| &overview.members);
    let listed = screen.listed();
    let (heading, rest) = cut(area, 1);
    pen.heading(heading, "nodes", &note(screen, listed.len(), members.len()));
    let grid = Grid {
        columns: &MEMBERS,
        rows: listed.len(),
        cursor: Some(screen.cursor()),
        sorted: None,
    };
    pen.grid(rest, &grid, |row, title, _| {
        member_cell(&members[listed[row]], title, look)
    });
}

fn member_cell(member: &Member, title: &str, look: Look) -> Line<'static> {
    match title {
        "NODE" => Line::raw(member.node.name.clone()),
        "STATE" if member.live => Line::styled("live", look.good()),
        "STATE" => Line::styled("gone", look.bad()),
        "ROLE" if member.is_leader => Line::styled("leader", look.strong()),
        "SHARE" if member.on_floor => Line::styled("on floor", look.warning()),
        "SHARE" => Line::raw("granted"),
        "LAST REPORT" => match member.last_report_ms {
            Some(ago) => Line::raw(format!("{} ago", span(ago))),
            None => Line::styled("-", look.quiet()),
        },
        "ADDRESS" => Line::styled(member.node.address.clone(), look.quiet()),
        _ => Line::default(),
    }
}

fn share_cell(node: &NodeLimits, share: &NodeLimit, title: &str, look: Look) -> Line<'static> {
    match title {
        "" if !node.live => Line::styled("!", look.bad()),
        "" if node.is_leader => Line::styled("*", look.strong()),
        "" if share.on_floor => Line::styled("f", look.warning()),
        "NODE" if !node.live => Line::styled(node.node.name.clone(), look.bad()),
        "NODE" => Line::raw(node.node.name.clone()),
        title => held_cell(share, title, look),
    }
}

fn held_cell(share: &NodeLimit, title: &str, look: Look) -> Line<'static> {
    let text = match title {
        "LIMIT" => share.limit.clone(),
        "SHARE" => for_each(share.share, share.per.is_some()),
        "PART" => percent(part(share.share, share.rate)),
        "OFFERED" => short(share.offered),
        "ADMITTED" => short(share.admitted),
        "DROPPED" => return dropped(share.dropped, look),
        "UNIT" => return Line::styled(per_second(share.unit), look.quiet()),
        "FLOOR" => short(share.floor),
        "LEASE" => match (share.on_floor, share.lease_left_ms) {
            (true, _) => return Line::styled("floor", look.warning()),
            (false, Some(left)) => span(left),
            (false, None) => String::from("-"),
        },
        _ => String::new(),
    };
    if text == "0" || text == "-" {
        return Line::styled(text, look.quiet());
    }
    Line::raw(text)
}
