//! `weir history`.

use std::{process::ExitCode, time::SystemTime};

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    cli::Cli,
    client::ClientError,
    number::span,
    table::{Align, Cell, Table, Tone, output_has_colour},
    view::{Author, History, Version},
};

/// Lists the stored versions.
pub(super) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    let reply = ask(cli, async |mut client| {
        let reply = client.history(v1::HistoryRequest {}).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let history = History::from(reply);
    if cli.json {
        print_json(&history)?;
    } else if history.versions.is_empty() {
        println!("no policy yet; put one in force with `weir apply FILE`");
    } else {
        print!("{}", table(&history.versions, output_has_colour()));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(versions: &[Version], has_colour: bool) -> Table {
    let columns = [
        ("VERSION", Align::Right),
        ("STORED", Align::Right),
        ("BY", Align::Left),
        ("STATE", Align::Left),
    ];
    let mut table = Table::new(&columns, has_colour);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    for version in versions {
        let stored_ms = u64::try_from(version.stored_at_ms).unwrap_or_default();
        table.row([
            version.version.to_string().into(),
            format!("{} ago", span(now_ms.saturating_sub(stored_ms))).into(),
            author(version),
            state(version),
        ]);
    }
    table
}

fn author(version: &Version) -> Cell {
    match (&version.author, version.restores) {
        (Some(author), _) => named(author).into(),
        (None, Some(_)) => Cell::new("nobody: it was not confirmed", Tone::Quiet),
        (None, None) => Cell::new("unknown", Tone::Quiet),
    }
}

/// What a certificate says, and what somebody said of themselves, are not the same.
fn named(author: &Author) -> String {
    if author.certified {
        author.name.clone()
    } else {
        format!("{} (unproved)", author.name)
    }
}

fn state(version: &Version) -> Cell {
    let mut again = match version.restores {
        Some(0) => ", no limits again".to_owned(),
        Some(restored) => format!(", version {restored} again"),
        None => String::new(),
    };
    if let Some(by) = &version.confirmed_by {
        again += &format!(", confirmed by {}", named(by));
    }
    match (version.in_force, version.confirm_within_ms) {
        (true, Some(left)) => Cell::new(
            format!("in force{again}, {} left to confirm it", span(left)),
            Tone::Bad,
        ),
        (true, None) => Cell::new(format!("in force{again}"), Tone::Good),
        (false, _) => again.trim_start_matches(", ").into(),
    }
}
