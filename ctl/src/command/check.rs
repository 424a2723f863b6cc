//! `weir check`.

use std::{fmt, process::ExitCode};

use serde::Serialize;
use weir_model::{
    Amount, Cost, Limit, Policy,
    file::{self, Outcome, Problem, Severity},
    policy::{Fragments, Key, Mode, OnExpiry, Promise, Unparsed},
};

use super::{WRONG_USAGE, print_json};
use crate::{
    FAILED, number,
    source::{MAX_BYTES, MAX_FLEET_BYTES, Source},
    table::{Align, Cell, Table, Tone, output_has_colour},
};

/// Says what is wrong with a file, and what a good one means.
pub(super) fn run(file: &Source, json: bool) -> anyhow::Result<ExitCode> {
    let text = match file.read(MAX_BYTES) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("weir: {error}");
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    };
    let mut outcome = file::check(&text);
    if outcome.value.is_some() && text.len() as u64 > MAX_FLEET_BYTES {
        outcome.problems.push(too_large(text.len()));
    }
    if json {
        print_json(&Report::of(file, &outcome))?;
    } else {
        for problem in &outcome.problems {
            println!("{file}:{problem}");
        }
        match &outcome.value {
            Some(policy) => print!("{}", summary(policy)),
            None => println!("{}", verdict(file, &outcome.problems)),
        }
    }
    Ok(match outcome.value {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::from(FAILED),
    })
}

/// One host alone takes it; a fleet does not.
fn too_large(bytes: usize) -> Problem {
    Problem {
        line: 1,
        column: 1,
        severity: Severity::Warning,
        message: format!(
            "{bytes} bytes are more than ZooKeeper can hold of one fleet's limits, {MAX_FLEET_BYTES}"
        ),
        suggestion: Some(String::from(
            "write fewer or shorter limits; `weir run` takes it, on one host alone",
        )),
    }
}

/// How many errors and warnings; notes are not counted, as nothing is wrong.
pub(super) fn verdict(file: &Source, problems: &[Problem]) -> String {
    let count = |severity: Severity| {
        let found = problems
            .iter()
            .filter(|problem| problem.severity == severity);
        match found.count() {
            1 => format!("1 {severity}"),
            more => format!("{more} {severity}s"),
        }
    };
    format!(
        "{file}: {}, {}",
        count(Severity::Error),
        count(Severity::Warning)
    )
}

fn summary(policy: &Policy) -> String {
    let columns = [
        ("LIMIT", Align::Left),
        ("PER", Align::Left),
        ("PROMISE", Align::Left),
        ("MODE", Align::Left),
        ("RATE", Align::Right),
        ("BURST", Align::Right),
        ("UNIT", Align::Left),
        ("FLOOR", Align::Right),
        ("RESERVED", Align::Right),
    ];
    let mut table = Table::new(&columns, output_has_colour());
    for limit in &policy.limits {
        let row = Row::of(limit, policy.fleet.max_members);
        let dash = || Cell::new("-", Tone::Quiet);
        table.row([
            row.name.clone().into(),
            row.per
                .map_or_else(dash, |per| Cell::new(per.to_string(), Tone::Plain)),
            row.promise.into(),
            row.mode.into(),
            format!("{}/s", number::short(row.rate)).into(),
            number::short(row.burst).into(),
            row.unit.into(),
            row.floor_rate
                .map_or_else(dash, |floor| format!("{}/s", number::short(floor)).into()),
            row.reserved
                .map_or_else(dash, |reserved| format!("{:.1} %", reserved * 100.0).into()),
        ]);
    }
    let members = policy.fleet.max_members;
    let mut text = format!(
        "{table}\nFLOOR is what each of up to {members} members may always admit; together they \
         reserve RESERVED of the rate.\n"
    );
    if policy.limits.iter().any(|limit| limit.per.is_some()) {
        text += "RATE and BURST of a limit with PER are those of one source prefix.\n";
    }
    text
}

/// `--json`.
#[derive(Serialize)]
struct Report {
    file: String,
    ok: bool,
    problems: Vec<ProblemReport>,
    max_members: Option<u32>,
    /// The verdict for packets whose headers cannot be parsed.
    unparsed: Option<&'static str>,
    limits: Vec<Row>,
}

#[derive(Serialize)]
struct ProblemReport {
    line: u32,
    column: u32,
    severity: String,
    message: String,
    suggestion: Option<String>,
}

impl Report {
    fn of(file: &Source, outcome: &Outcome<Policy>) -> Self {
        let problem = |problem: &Problem| ProblemReport {
            line: problem.line,
            column: problem.column,
            severity: problem.severity.to_string(),
            message: problem.message.clone(),
            suggestion: problem.suggestion.clone(),
        };
        let rows = |policy: &Policy| {
            let members = policy.fleet.max_members;
            policy
                .limits
                .iter()
                .map(|limit| Row::of(limit, members))
                .collect()
        };
        let policy = outcome.value.as_ref();
        Self {
            file: file.to_string(),
            ok: policy.is_some(),
            problems: outcome.problems.iter().map(problem).collect(),
            max_members: policy.map(|policy| policy.fleet.max_members),
            unparsed: policy.map(|policy| match policy.fleet.unparsed {
                Unparsed::Drop => "drop",
                Unparsed::Pass => "pass",
            }),
            limits: policy.map(rows).unwrap_or_default(),
        }
    }
}

/// What a limit means, in tokens.
#[derive(Serialize)]
struct Row {
    name: String,
    /// The prefix lengths of a keyed limit's sources.
    per: Option<Lengths>,
    promise: &'static str,
    mode: &'static str,
    unit: &'static str,
    /// Of each key, for a keyed limit; so is `burst`.
    rate: f64,
    burst: f64,
    /// What one key may spend on one host, for a keyed limit.
    key: Option<KeyRow>,
    /// Of each member; `None` for a limit that is not shared, or moves whole.
    floor_rate: Option<f64>,
    /// The part of the rate that the floors of all members take.
    reserved: Option<f64>,
    /// What holds without a lease; `None` for a limit that is not leased.
    on_expiry: Option<&'static str>,
    /// How far an elastic limit may go above its rate.
    excess: Option<f64>,
    /// For an elastic aggregate limit: the most that it ever admits above its rate and burst.
    excess_tokens: Option<f64>,
    /// Bytes that a frame counts beyond its length.
    overhead: u32,
    quic: bool,
    fragments: &'static str,
}

#[derive(Clone, Copy, Serialize)]
struct Lengths {
    source_v4: u8,
    source_v6: u8,
}

impl fmt::Display for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v4/{} v6/{}", self.source_v4, self.source_v6)
    }
}

#[derive(Serialize)]
struct KeyRow {
    rate: f64,
    burst: f64,
}

impl Row {
    fn of(limit: &Limit, max_members: u32) -> Self {
        let tokens = |amount: Amount| KeyRow {
            rate: limit.scale.tokens_per_second(amount.rate),
            burst: limit.scale.tokens(amount.burst),
        };
        let has_floors = limit.is_divisible && limit.on_expiry != OnExpiry::Closed;
        let floor_rate = limit.scale.tokens_per_second(limit.floor.rate);
        let KeyRow { rate, burst } = tokens(limit.budget);
        let lent = limit.scale.tokens(limit.lent_burst());
        Self {
            name: limit.name.clone(),
            per: limit.per.map(|key: Key| Lengths {
                source_v4: key.source_v4,
                source_v6: key.source_v6,
            }),
            promise: match limit.promise {
                Promise::Strict => "strict",
                Promise::Elastic => "elastic",
                Promise::Local => "local",
            },
            mode: match limit.mode {
                Mode::Enforce => "enforce",
                Mode::Shadow => "shadow",
            },
            unit: match limit.cost {
                Cost::Packets => "packets",
                Cost::Bits => "bits",
                Cost::Connections => "connections",
            },
            rate,
            burst: burst - lent,
            excess_tokens: (limit.is_leased() && limit.excess.is_some()).then_some(lent),
            key: limit.key_amount().map(tokens),
            floor_rate: has_floors.then_some(floor_rate),
            reserved: has_floors.then(|| floor_rate * f64::from(max_members) / rate),
            on_expiry: limit.is_leased().then_some(match limit.on_expiry {
                OnExpiry::Floor => "floor",
                OnExpiry::Closed => "closed",
                OnExpiry::Open => "open",
            }),
            excess: limit.excess.map(|excess| f64::from(excess.0) / 1e6),
            overhead: limit.overhead_bytes,
            quic: limit.quic,
            fragments: match limit.matches.fragments {
                Fragments::Any => "any",
                Fragments::Only => "only",
            },
        }
    }
}
