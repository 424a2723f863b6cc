//! `weir status`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    FAILED,
    cli::Cli,
    client::ClientError,
    number::{for_each, short, span},
    table::{Align, Cell, Table, Tone, output_has_colour},
    view::{HotSource, LimitStatus, Member, Status},
};

/// Prints the fleet at a glance; fails while a promise is broken.
pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let reply = ask(cli, async |mut client| {
        let reply = client.status(v1::StatusRequest {}).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let status = Status::from(reply);
    if cli.json {
        print_json(&status)?;
    } else {
        print!("{}", summary(&status, output_has_colour()));
    }
    let is_kept = status.limits.iter().all(|limit| limit.promise_kept);
    Ok(if is_kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

fn summary(status: &Status, has_colour: bool) -> String {
    let mut text = String::new();
    for (title, line) in [
        (
            "answered by",
            named(&status.node.name, &status.node.address),
        ),
        ("leader", leader(status)),
        ("zookeeper", zookeeper(status)),
        ("policy", policy(status)),
    ] {
        text += &format!("{title:<12} {line}\n");
    }
    if !status.members.is_empty() {
        text += &format!("\n{}", members(&status.members, has_colour));
    }
    if !status.limits.is_empty() {
        text += &format!("\n{}", limits(&status.limits, has_colour));
    }
    text
}

fn named(name: &str, address: &str) -> String {
    match address {
        "" => name.to_owned(),
        address => format!("{name} ({address})"),
    }
}

fn leader(status: &Status) -> String {
    match (&status.leader, &status.zookeeper) {
        (Some(leader), _) => format!(
            "{}, term {}",
            named(&leader.name, &leader.address),
            status.term
        ),
        (None, Some(_)) => format!("none, term {}: nodes fall to their floors", status.term),
        (None, None) => String::from("this host alone"),
    }
}

fn zookeeper(status: &Status) -> String {
    match &status.zookeeper {
        Some(zookeeper) => {
            let state = if zookeeper.connected {
                "connected"
            } else {
                "NOT CONNECTED"
            };
            format!(
                "{state} for {} ({})",
                span(zookeeper.since_ms),
                zookeeper.servers
            )
        }
        None => String::from("not used"),
    }
}

fn policy(status: &Status) -> String {
    match status.policy_version {
        0 => String::from("none; put one in force with `weir apply FILE`"),
        version => match status.trial {
            Some(trial) => format!(
                "version {version}; version {} goes back in {} unless `weir confirm` is said",
                trial.version,
                span(trial.confirm_within_ms)
            ),
            None => format!("version {version}"),
        },
    }
}

fn members(members: &[Member], has_colour: bool) -> Table {
    let columns = [
        ("NODE", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("ROLE", Align::Left),
        ("SHARE", Align::Left),
        ("POLICY", Align::Right),
        ("LAST REPORT", Align::Right),
    ];
    let mut table = Table::new(&columns, has_colour);
    for member in members {
        table.row([
            member.node.name.clone().into(),
            member.node.address.clone().into(),
            match member.live {
                true => Cell::new("live", Tone::Good),
                false => Cell::new("gone", Tone::Bad),
            },
            if member.is_leader { "leader" } else { "" }.into(),
            match member.on_floor {
                true => Cell::new("floor", Tone::Bad),
                false => "granted".into(),
            },
            member.policy_version.to_string().into(),
            match member.last_report_ms {
                Some(ago) => format!("{} ago", span(ago)).into(),
                None => Cell::new("-", Tone::Quiet),
            },
        ]);
    }
    table
}

fn limits(limits: &[LimitStatus], has_colour: bool) -> Table {
    let columns = [
        ("LIMIT", Align::Left),
        ("PROMISE", Align::Left),
        ("", Align::Left),
        ("BUDGET", Align::Right),
        ("OFFERED", Align::Right),
        ("ADMITTED", Align::Right),
        ("UNIT", Align::Left),
        ("ON FLOOR", Align::Right),
        ("PENDING", Align::Left),
    ];
    // Most fleets have none.
    let are_hot = limits.iter().any(|limit| limit.hot_keys > 0);
    let hot_column = [("HOT", Align::Left)].into_iter().filter(|_| are_hot);
    let columns: Vec<_> = columns.into_iter().chain(hot_column).collect();
    let mut table = Table::new(&columns, has_colour);
    for limit in limits {
        let cells = [
            limit.name.clone().into(),
            limit.promise.into(),
            match limit.promise_kept {
                true => Cell::new("kept", Tone::Good),
                false => Cell::new("BROKEN", Tone::Bad),
            },
            for_each(limit.budget, limit.per.is_some()).into(),
            short(limit.offered_rate).into(),
            short(limit.admitted_rate).into(),
            format!("{}/s", limit.unit).into(),
            on_floor(limit),
            limit.pending.join(", ").into(),
        ];
        let hot_cell = [hot(limit).into()].into_iter().filter(|_| are_hot);
        table.row(cells.into_iter().chain(hot_cell));
    }
    table
}

/// `3: 198.51.100.7/32, 12.0k`: how many, and the heaviest with what it offers.
fn hot(limit: &LimitStatus) -> String {
    match &limit.heaviest_hot {
        Some(HotSource { source, offered }) => {
            format!("{}: {source}, {}", limit.hot_keys, short(*offered))
        }
        None if limit.hot_keys > 0 => limit.hot_keys.to_string(),
        None => String::new(),
    }
}

fn on_floor(limit: &LimitStatus) -> Cell {
    match limit.nodes_failing_open {
        0 => limit.nodes_on_floor.to_string().into(),
        open => Cell::new(format!("{open} OPEN"), Tone::Bad),
    }
}
