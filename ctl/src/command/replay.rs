//! `weir replay`.

use std::{fs, process::ExitCode, time::Duration};

use anyhow::Context as _;
use weir_model::file;
use weir_proto::admin::v1;

use super::{WRONG_USAGE, ask, check::verdict, print_json};
use crate::{
    FAILED,
    address::Address,
    cli::{self, Certificates, Cli},
    client::{self, Client, ClientError},
    number::{short, span},
    replay::{LimitOutcome, NodeRecord, Outcome, Record, SourceRecord, replay},
    source::{MAX_BYTES, MAX_FLEET_BYTES},
    table::{Align, Cell, Table, Tone, output_has_colour},
    view::Applied,
};

/// How long each member has to say what it recorded.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(5);
/// Sources that are asked for, all limits together.
const SOURCES: u32 = 100;
/// What a limits file says besides which traffic it is about.
const AMOUNTS: [&str; 7] = [
    "rate",
    "burst",
    "promise",
    "excess",
    "floor",
    "on_expiry",
    "mode",
];

/// Says who would have been limited by a file.
pub(super) fn run(cli: &Cli, arguments: &cli::Replay) -> anyhow::Result<ExitCode> {
    let document = match arguments.file.read(MAX_FLEET_BYTES) {
        Ok(document) => document,
        Err(error) => {
            eprintln!("weir: {error}");
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    };
    let checked = file::check(&document);
    let Some(policy) = &checked.value else {
        for problem in &checked.problems {
            eprintln!("{}:{problem}", arguments.file);
        }
        eprintln!("{}", verdict(&arguments.file, &checked.problems));
        return Ok(ExitCode::from(FAILED));
    };
    let (record, changed) = match &arguments.demand {
        Some(path) => {
            let text = match path.read(MAX_BYTES) {
                Ok(text) => text,
                Err(error) => {
                    eprintln!("weir: {error}");
                    return Ok(ExitCode::from(WRONG_USAGE));
                }
            };
            let record = serde_json::from_str(&text)
                .with_context(|| format!("{path} is no record that --save wrote"))?;
            (record, Vec::new())
        }
        None => ask(cli, async |client| {
            recorded(client, &cli.certificates, document).await
        })?,
    };
    if let Some(path) = &arguments.save {
        let text = serde_json::to_string(&record).context("a record that JSON cannot hold")?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let outcome = replay(policy, &record, &changed);
    if cli.json {
        print_json(&outcome)?;
    } else {
        print!("{}", page(&outcome, output_has_colour()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What all members recorded, and the limits that the document would have match other traffic.
async fn recorded(
    mut client: Client,
    certificates: &Certificates,
    document: String,
) -> anyhow::Result<(Record, Vec<String>)> {
    let request = v1::OverviewRequest {
        top: SOURCES,
        ..v1::OverviewRequest::default()
    };
    let overview = client.overview(request).await.map_err(ClientError::from)?;
    let overview = overview.into_inner();
    let own = client.demand(v1::DemandRequest {}).await;
    let own = own.map_err(ClientError::from)?.into_inner();
    let asked = own.node.clone().unwrap_or_default();
    let mut record = Record {
        nodes: vec![NodeRecord::of(asked.name.clone(), own)],
        missing: Vec::new(),
        sources: overview.sources.into_iter().map(source).collect(),
    };
    let members = overview.fleet.unwrap_or_default().members.into_iter();
    let nodes = members.filter_map(|member| member.node);
    // All at once: each that is gone takes its time to be given up.
    let questions: Vec<_> = nodes
        .filter(|node| node.id != asked.id)
        .map(|node| {
            (
                node.name,
                tokio::spawn(demand(node.address, certificates.clone())),
            )
        })
        .collect();
    for (name, answer) in questions {
        match answer.await.ok().flatten() {
            Some(demand) => record.nodes.push(NodeRecord::of(name, demand)),
            None => record.missing.push(name),
        }
    }
    let changed = changed(client, document).await?;
    Ok((record, changed))
}

fn source(source: v1::OverviewSource) -> SourceRecord {
    let unit = crate::view::unit(source.unit()).to_owned();
    let heavy = source.source.unwrap_or_default();
    SourceRecord {
        limit: source.limit,
        unit,
        source: heavy.source,
        offered: heavy.offered,
    }
}

/// Over TLS if there is a certificate to show.
async fn demand(address: String, certificates: Certificates) -> Option<v1::DemandReply> {
    if address.is_empty() {
        return None;
    }
    let address = if certificates.are_named() {
        Address::Https(address)
    } else {
        Address::Http(format!("http://{address}"))
    };
    let client = client::connect(&address, &certificates, MEMBER_TIMEOUT).await;
    let mut client = client.ok()?;
    let reply = client.demand(v1::DemandRequest {}).await.ok()?;
    Some(reply.into_inner())
}

async fn changed(mut client: Client, document: String) -> anyhow::Result<Vec<String>> {
    let request = v1::ApplyRequest {
        document,
        dry_run: true,
        ..v1::ApplyRequest::default()
    };
    let reply = client.apply(request).await.map_err(ClientError::from)?;
    let changes = Applied::of(reply.into_inner(), true).changes.into_iter();
    let matches_others = changes.filter(|change| {
        let mut fields = change.fields.iter();
        change.change == "changed" && fields.any(|field| !AMOUNTS.contains(&field.field.as_str()))
    });
    Ok(matches_others.map(|change| change.limit).collect())
}

fn page(outcome: &Outcome, has_colour: bool) -> String {
    let milliseconds = outcome.seconds as u64 * 1_000;
    let mut page = format!(
        "demand of the last {} on {}",
        span(milliseconds),
        counted(outcome.nodes.len(), "host")
    );
    if !outcome.missing.is_empty() {
        page += &format!("; WITHOUT {}, not reached", outcome.missing.join(", "));
    }
    page += &format!("\n\n{}", limits(outcome, has_colour));
    let unknown = outcome.limits.iter();
    let unknown: Vec<String> = unknown
        .filter_map(|limit| Some(format!("{}: {}\n", limit.limit, limit.unknown?)))
        .collect();
    if !unknown.is_empty() {
        page += &format!("\n{}", unknown.concat());
    }
    if !outcome.sources.is_empty() {
        page += &format!("\n{}", sources(outcome, has_colour));
    }
    page
}

fn counted(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    }
}

fn limits(outcome: &Outcome, has_colour: bool) -> Table {
    let columns = [
        ("LIMIT", Align::Left),
        ("RATE", Align::Right),
        ("OFFERED", Align::Right),
        ("AT MOST", Align::Right),
        ("WOULD DROP", Align::Right),
        ("OF IT", Align::Right),
        ("LIMITED FOR", Align::Right),
        ("UNIT", Align::Left),
    ];
    let mut table = Table::new(&columns, has_colour);
    let dash = || Cell::new("-", Tone::Quiet);
    for limit in &outcome.limits {
        let known = limit.unknown.is_none();
        let number = |number: f64| if known { short(number).into() } else { dash() };
        table.row([
            limit.limit.clone().into(),
            short(limit.rate).into(),
            number(limit.offered),
            number(limit.offered_most),
            if known { dropped(limit) } else { dash() },
            if known { part(limit).into() } else { dash() },
            match limit.limited_seconds {
                0 => dash(),
                seconds => span(seconds as u64 * 1_000).into(),
            },
            format!("{}/s", limit.unit).into(),
        ]);
    }
    table
}

fn dropped(limit: &LimitOutcome) -> Cell {
    let text = short(limit.dropped);
    match (limit.dropped > 0.0, limit.shadow) {
        (false, _) => text.into(),
        (true, true) => format!("({text})").into(),
        (true, false) => Cell::new(text, Tone::Bad),
    }
}

fn part(limit: &LimitOutcome) -> String {
    if limit.offered > 0.0 {
        format!("{:.1} %", limit.dropped / limit.offered * 100.0)
    } else {
        String::from("0.0 %")
    }
}

fn sources(outcome: &Outcome, has_colour: bool) -> Table {
    let columns = [
        ("SOURCE", Align::Left),
        ("LIMIT", Align::Left),
        ("SENDS", Align::Right),
        ("WOULD DROP", Align::Right),
        ("UNIT", Align::Left),
    ];
    let mut table = Table::new(&columns, has_colour);
    for source in &outcome.sources {
        table.row([
            source.source.clone().into(),
            source.limit.clone().into(),
            format!("~{}", short(source.offered)).into(),
            Cell::new(format!("~{}", short(source.dropped)), Tone::Bad),
            format!("{}/s", source.unit).into(),
        ]);
    }
    table
}
