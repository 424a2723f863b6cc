//! `weir apply`.

use std::process::ExitCode;

use tonic::Code;
use weir_model::file;
use weir_proto::admin::v1;

use super::{WRONG_USAGE, ask, check::verdict, print_json};
use crate::{
    FAILED,
    cli::{Apply, Cli},
    client::ClientError,
    source::{MAX_FLEET_BYTES, Source},
    view::{Applied, Change},
};

/// Checks a file here, so that its problems are said even without a daemon, then hands it over.
pub(super) fn run(cli: &Cli, arguments: &Apply) -> anyhow::Result<ExitCode> {
    let file = &arguments.file;
    let document = match file.read(MAX_FLEET_BYTES) {
        Ok(document) => document,
        Err(error) => {
            eprintln!("weir: {error}");
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    };
    let checked = file::check(&document);
    for problem in &checked.problems {
        eprintln!("{file}:{problem}");
    }
    if checked.value.is_none() {
        eprintln!("{}; nothing was applied", verdict(file, &checked.problems));
        return Ok(ExitCode::from(FAILED));
    }
    let request = v1::ApplyRequest {
        document,
        dry_run: arguments.dry_run,
        expected_version: arguments.expected_version,
    };
    let answer = ask(cli, async |mut client| Ok(client.apply(request).await))?;
    let reply = match answer {
        Ok(reply) => reply.into_inner(),
        Err(status) if status.code() == Code::InvalidArgument => {
            return Ok(refused(file, status.message()));
        }
        Err(status) => return Err(ClientError::from(status).into()),
    };
    let applied = Applied::of(reply, arguments.dry_run);
    if cli.json {
        print_json(&applied)?;
    } else {
        print!("{}", summary(&applied));
    }
    Ok(ExitCode::SUCCESS)
}

/// The fleet's daemons know a stricter language than this command.
fn refused(file: &Source, problems: &str) -> ExitCode {
    for problem in problems.lines() {
        eprintln!("{file}:{problem}");
    }
    eprintln!("{file}: refused by the fleet; nothing was applied");
    ExitCode::from(FAILED)
}

fn summary(applied: &Applied) -> String {
    let mut text = String::new();
    for change in &applied.changes {
        text += &described(change);
    }
    let changes = match applied.changes.len() {
        0 => String::from("no limit changes"),
        1 => String::from("1 limit changes"),
        more => format!("{more} limits change"),
    };
    let version = applied.version;
    text += &match (applied.dry_run, version) {
        (true, 0) => format!("{changes}; dry run: no policy is in force\n"),
        (true, _) => format!("{changes}; dry run: version {version} stays in force\n"),
        (false, _) => format!("{changes}; version {version} is in force\n"),
    };
    text
}

fn described(change: &Change) -> String {
    let name = &change.limit;
    match change.change {
        "added" => format!("+ {name}\n"),
        "removed" => format!("- {name}\n"),
        _ => {
            let unset = |text: &str| match text {
                "" => String::from("(unset)"),
                text => text.to_owned(),
            };
            let fields = change.fields.iter().map(|field| {
                let (before, after) = (unset(&field.before), unset(&field.after));
                format!("    {}: {before} → {after}\n", field.field)
            });
            format!("~ {name}\n{}", fields.collect::<String>())
        }
    }
}
