//! `weir voters`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    FAILED,
    cli::Cli,
    client::ClientError,
    table::{Align, Cell, Table, Tone, output_has_colour},
    view::Voters,
};

/// Lists the voters; fails when there is no majority of them.
pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let reply = ask(cli, async |mut client| {
        let reply = client.status(v1::StatusRequest {}).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let voters = Voters::from(reply);
    if cli.json {
        print_json(&voters)?;
    } else {
        print!("{}", summary(&voters, output_has_colour()));
    }
    Ok(if voters.live >= voters.majority {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

fn summary(voters: &Voters, has_colour: bool) -> String {
    if voters.voters.is_empty() {
        return String::from("no voters: this host is alone, or the fleet has no leader yet\n");
    }
    let columns = [
        ("VOTER", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
    ];
    let mut table = Table::new(&columns, has_colour);
    for voter in &voters.voters {
        table.row([
            voter.node.name.clone().into(),
            voter.node.address.clone().into(),
            match voter.live {
                true => Cell::new("live", Tone::Good),
                false => Cell::new("gone", Tone::Bad),
            },
        ]);
    }
    let (live, all, needed) = (voters.live, voters.voters.len(), voters.majority);
    let verdict = if live >= needed {
        "commits go on"
    } else {
        "NOTHING CAN BE COMMITTED: hosts fall to their floors until more of them are back"
    };
    format!("{table}\n{live} of {all} live, {needed} needed: {verdict}\n")
}
