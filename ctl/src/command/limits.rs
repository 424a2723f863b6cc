//! `weir limits`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    cli::{self, Cli},
    client::ClientError,
    number::{about, for_each, short},
    table::{Align, Cell, Table, Tone, output_has_colour},
    view::{HeavySource, Limit, Limits, Top},
};

/// Prints every limit, summed over the fleet, and the heaviest sources if they are asked for.
pub(super) fn run(cli: &Cli, arguments: &cli::Limits) -> anyhow::Result<ExitCode> {
    let top = arguments.top.unwrap_or(0);
    let reply = ask(cli, async |mut client| {
        let reply = client.limits(v1::LimitsRequest { top }).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let limits = Limits::of(reply, top > 0);
    if cli.json {
        print_json(&limits)?;
    } else if limits.limits.is_empty() {
        println!("no limits; put some in force with `weir apply FILE`");
    } else {
        if let Some(node) = &limits.top_of {
            println!(
                "limits over the fleet; below each its heaviest sources, as {} alone sees them\n\
                 (~ is estimated from sampled packets of the last seconds)\n",
                node.name
            );
        }
        print!("{}", table(&limits, output_has_colour()));
    }
    Ok(ExitCode::SUCCESS)
}

const NAMES: [(&str, Align); 3] = [
    ("LIMIT", Align::Left),
    ("PROMISE", Align::Left),
    ("MODE", Align::Left),
];
const NUMBERS: [(&str, Align); 7] = [
    ("RATE", Align::Right),
    ("OFFERED", Align::Right),
    ("ADMITTED", Align::Right),
    ("DROPPED", Align::Right),
    ("UNIT", Align::Left),
    ("BURST", Align::Right),
    ("NODES", Align::Right),
];

fn table(limits: &Limits, has_colour: bool) -> Table {
    // A column that nobody needs is left out.
    let has_keys = limits.limits.iter().any(|limit| limit.per.is_some());
    let per = has_keys.then_some(("PER", Align::Left));
    let columns: Vec<_> = NAMES.into_iter().chain(per).chain(NUMBERS).collect();
    let mut table = Table::new(&columns, has_colour);
    for limit in &limits.limits {
        table.row(row(limit, has_keys));
        for cells in limit.top.iter().flat_map(|top| sources(top, has_keys)) {
            table.row(cells);
        }
    }
    table
}

fn row(limit: &Limit, has_keys: bool) -> Vec<Cell> {
    let per = limit.per.map(|key| key.to_string()).unwrap_or_default();
    let names = [limit.name.clone(), limit.promise.into(), limit.mode.into()];
    let numbers = [
        for_each(limit.rate, limit.per.is_some()),
        short(limit.offered),
        short(limit.admitted),
        short(limit.dropped),
        format!("{}/s", limit.unit),
        for_each(limit.burst, limit.per.is_some()),
        limit.nodes.to_string(),
    ];
    let cells = names.into_iter().chain(has_keys.then_some(per));
    cells.chain(numbers).map(Cell::from).collect()
}

/// The rows below a limit.
fn sources(top: &Top, has_keys: bool) -> Vec<Vec<Cell>> {
    let note = |text: &str| vec![vec![Cell::new(format!("  {text}"), Tone::Quiet)]];
    if top.top_left_out {
        return note("(not followed)");
    }
    if top.top.is_empty() {
        return note("(none seen)");
    }
    let source = |source: &HeavySource| {
        let HeavySource {
            offered,
            dropped,
            error,
            leased,
            ..
        } = source;
        let numbers = [
            leased.map(short).unwrap_or_default(),
            about(offered - error, *offered),
            String::new(),
            about(*dropped, (dropped + error).min(*offered)),
        ];
        let hot = leased.map(|_| "hot here".to_owned()).unwrap_or_default();
        let names = [format!("  {}", source.source), hot, String::new()];
        let cells = names.into_iter().chain(has_keys.then(String::new));
        cells.chain(numbers).map(Cell::from).collect()
    };
    top.top.iter().map(source).collect()
}
