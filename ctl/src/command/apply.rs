//! `weir apply`.

use std::{process::ExitCode, time::Duration};

use tonic::Code;
use weir_model::{change::FLEET, file};
use weir_proto::admin::v1;

use super::{WRONG_USAGE, ask, check::verdict, print_json};
use crate::{
    FAILED,
    author::author,
    cli::{Apply, Cli},
    client::ClientError,
    number::span,
    source::{MAX_FLEET_BYTES, Source},
    table::{Cell, Tone, output_has_colour},
    view::{Applied, Change},
};

/// Puts a file in force.
pub(super) fn run(cli: &Cli, arguments: &Apply) -> anyhow::Result<ExitCode> {
    let request = v1::ApplyRequest {
        document: String::new(),
        dry_run: arguments.dry_run,
        expected_version: arguments.expected_version,
        confirm_within_ms: arguments.confirm_within.map(milliseconds),
        author: author(),
    };
    hand_over(cli, &arguments.file, request)
}

/// Says what applying a file would change.
pub(super) fn diff(cli: &Cli, file: &Source) -> anyhow::Result<ExitCode> {
    let request = v1::ApplyRequest {
        dry_run: true,
        ..v1::ApplyRequest::default()
    };
    hand_over(cli, file, request)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Checks a file here, so that its problems are said even without a daemon, then hands it over.
fn hand_over(cli: &Cli, file: &Source, request: v1::ApplyRequest) -> anyhow::Result<ExitCode> {
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
    let (dry_run, within) = (request.dry_run, request.confirm_within_ms);
    let request = v1::ApplyRequest {
        document,
        ..request
    };
    let answer = ask(cli, async |mut client| Ok(client.apply(request).await))?;
    let reply = match answer {
        Ok(reply) => reply.into_inner(),
        Err(status) if status.code() == Code::InvalidArgument => {
            return Ok(refused(file, status.message()));
        }
        Err(status) => return Err(ClientError::from(status).into()),
    };
    let applied = Applied {
        confirm_within_ms: within,
        ..Applied::of(reply, dry_run)
    };
    print(cli, &applied)
}

/// Prints what has come into force, or would.
pub(super) fn print(cli: &Cli, applied: &Applied) -> anyhow::Result<ExitCode> {
    if cli.json {
        print_json(applied)?;
    } else {
        print!("{}", summary(applied, output_has_colour()));
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

fn summary(applied: &Applied, has_colour: bool) -> String {
    let mut text = String::new();
    for change in &applied.changes {
        text += &described(change, |text, tone| Cell::new(text, tone).shown(has_colour));
    }
    let limits = applied.changes.iter();
    let limits = limits.filter(|change| change.limit != FLEET).count();
    let changes = match (limits, applied.changes.len() - limits) {
        (0, 0) => String::from("no limit changes"),
        (0, _) => String::from("settings of the fleet change, and no limit"),
        (1, _) => String::from("1 limit changes"),
        (more, _) => format!("{more} limits change"),
    };
    let version = applied.version;
    text += &match (applied.dry_run, version, applied.confirm_within_ms) {
        (true, 0, _) => format!("{changes}; dry run: no policy is in force\n"),
        (true, _, _) => format!("{changes}; dry run: version {version} stays in force\n"),
        (false, _, None) => format!("{changes}; version {version} is in force\n"),
        (false, _, Some(within)) => format!(
            "{changes}; version {version} is in force for {}: `weir confirm` keeps it\n",
            span(within)
        ),
    };
    text
}

fn described(change: &Change, paint: impl Fn(String, Tone) -> String) -> String {
    let name = &change.limit;
    let line = |mark: &str, tone| paint(format!("{mark} {name}"), tone) + "\n";
    match change.change {
        "added" => line("+", Tone::Good),
        "removed" => line("-", Tone::Bad),
        _ => {
            let unset = |text: &str| match text {
                "" => String::from("(unset)"),
                text => text.to_owned(),
            };
            let fields = change.fields.iter().map(|field| {
                let before = paint(unset(&field.before), Tone::Bad);
                let after = paint(unset(&field.after), Tone::Good);
                format!("    {}: {before} → {after}\n", field.field)
            });
            line("~", Tone::Changed) + &fields.collect::<String>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Field;

    fn applied() -> Applied {
        let change = |limit: &str, change, fields| Change {
            limit: limit.to_owned(),
            change,
            fields,
        };
        let rate = Field {
            field: "rate".to_owned(),
            before: "1000 packets/s".to_owned(),
            after: String::new(),
        };
        Applied {
            version: 4,
            dry_run: true,
            confirm_within_ms: None,
            changes: vec![
                change("new", "added", Vec::new()),
                change("old", "removed", Vec::new()),
                change("dns", "changed", vec![rate]),
            ],
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_difference_is_coloured_and_without_colours_the_same() {
        let coloured = summary(&applied(), true);
        for part in [
            "\x1b[32m+ new\x1b[0m\n",
            "\x1b[1;31m- old\x1b[0m\n",
            "\x1b[33m~ dns\x1b[0m\n",
            "rate: \x1b[1;31m1000 packets/s\x1b[0m → \x1b[32m(unset)\x1b[0m\n",
        ] {
            assert!(coloured.contains(part), "{coloured:?}");
        }
        let mut plain = coloured;
        for code in ["\x1b[32m", "\x1b[1;31m", "\x1b[33m", "\x1b[0m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, summary(&applied(), false));
    }
}
