//! `weir limits`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    cli::Cli,
    client::ClientError,
    number::short,
    table::{Align, Table, output_has_colour},
    view::Limits,
};

/// Prints every limit, summed over the fleet.
pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let reply = ask(cli, async |mut client| {
        let reply = client.limits(v1::LimitsRequest {}).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let limits = Limits::from(reply);
    if cli.json {
        print_json(&limits)?;
    } else if limits.limits.is_empty() {
        println!("no limits; put some in force with `weir apply FILE`");
    } else {
        print!("{}", table(&limits, output_has_colour()));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(limits: &Limits, has_colour: bool) -> Table {
    let columns = [
        ("LIMIT", Align::Left),
        ("PROMISE", Align::Left),
        ("MODE", Align::Left),
        ("RATE", Align::Right),
        ("OFFERED", Align::Right),
        ("ADMITTED", Align::Right),
        ("DROPPED", Align::Right),
        ("UNIT", Align::Left),
        ("BURST", Align::Right),
        ("NODES", Align::Right),
    ];
    let mut table = Table::new(&columns, has_colour);
    for limit in &limits.limits {
        table.row([
            limit.name.clone().into(),
            limit.promise.into(),
            limit.mode.into(),
            short(limit.rate).into(),
            short(limit.offered).into(),
            short(limit.admitted).into(),
            short(limit.dropped).into(),
            format!("{}/s", limit.unit).into(),
            short(limit.burst).into(),
            limit.nodes.to_string().into(),
        ]);
    }
    table
}
