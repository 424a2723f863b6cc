//! `weir nodes`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    cli::Cli,
    client::ClientError,
    number::{for_each, short, span},
    table::{Align, Cell, Table, Tone, output_has_colour},
    view::{NodeLimit, NodeLimits, Nodes},
};

/// Prints every limit on every node.
pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let reply = ask(cli, async |mut client| {
        let reply = client.nodes(v1::NodesRequest {}).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let nodes = Nodes::from(reply);
    if cli.json {
        print_json(&nodes)?;
    } else if nodes.nodes.is_empty() {
        println!("no nodes");
    } else {
        print!("{}", table(&nodes, output_has_colour()));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(nodes: &Nodes, has_colour: bool) -> Table {
    let columns = [
        ("NODE", Align::Left),
        ("LIMIT", Align::Left),
        ("SHARE", Align::Right),
        ("OF RATE", Align::Right),
        ("FLOOR", Align::Right),
        ("OFFERED", Align::Right),
        ("ADMITTED", Align::Right),
        ("DROPPED", Align::Right),
        ("UNIT", Align::Left),
        ("LEASE LEFT", Align::Right),
    ];
    let mut table = Table::new(&columns, has_colour);
    for node in &nodes.nodes {
        if node.limits.is_empty() {
            table.row([name(node), Cell::new("-", Tone::Quiet)]);
        }
        for limit in &node.limits {
            table.row([
                name(node),
                limit.limit.clone().into(),
                for_each(limit.share, limit.per.is_some()).into(),
                part(limit.share, limit.rate).into(),
                for_each(limit.floor, limit.per.is_some()).into(),
                short(limit.offered).into(),
                short(limit.admitted).into(),
                short(limit.dropped).into(),
                format!("{}/s", limit.unit).into(),
                lease(limit),
            ]);
        }
    }
    table
}

fn name(node: &NodeLimits) -> Cell {
    let name = &node.node.name;
    match (node.live, node.is_leader) {
        (false, _) => Cell::new(format!("{name} (gone)"), Tone::Bad),
        (true, true) => format!("{name} (leader)").into(),
        (true, false) => name.clone().into(),
    }
}

fn part(share: f64, rate: f64) -> String {
    if rate > 0.0 {
        format!("{:.1} %", share / rate * 100.0)
    } else {
        String::new()
    }
}

fn lease(limit: &NodeLimit) -> Cell {
    match (limit.on_floor, limit.lease_left_ms) {
        (true, _) => Cell::new("on floor", Tone::Bad),
        (false, Some(left)) => span(left).into(),
        (false, None) => Cell::new("-", Tone::Quiet),
    }
}
