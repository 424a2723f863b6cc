//! `weir check`.

use std::process::ExitCode;

use serde::Serialize;
use weir_model::{
    Cost, Limit, Policy,
    file::{self, Outcome, Problem, Severity},
    policy::Promise,
};

use super::{WRONG_USAGE, print_json};
use crate::{
    FAILED, number,
    source::Source,
    table::{Align, Cell, Table, Tone, output_has_colour},
};

/// Says what is wrong with a file, and what a good one means.
pub(super) fn run(file: &Source, json: bool) -> anyhow::Result<ExitCode> {
    let text = match file.read() {
        Ok(text) => text,
        Err(error) => {
            eprintln!("weir: {error}");
            return Ok(ExitCode::from(WRONG_USAGE));
        }
    };
    let outcome = file::check(&text);
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

/// How many errors and warnings.
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
    format!(
        "{table}\nFLOOR is what each of up to {members} members may always admit; together they \
         reserve RESERVED of the rate.\n"
    )
}

/// `--json`.
#[derive(Serialize)]
struct Report {
    file: String,
    ok: bool,
    problems: Vec<ProblemReport>,
    max_members: Option<u32>,
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
            limits: policy.map(rows).unwrap_or_default(),
        }
    }
}

/// What a limit means, in tokens.
#[derive(Serialize)]
struct Row {
    name: String,
    promise: &'static str,
    mode: &'static str,
    unit: &'static str,
    rate: f64,
    burst: f64,
    /// Of each member; `None` for a limit that is not shared, or moves whole.
    floor_rate: Option<f64>,
    /// The part of the rate that the floors of all members take.
    reserved: Option<f64>,
}

impl Row {
    fn of(limit: &Limit, max_members: u32) -> Self {
        let is_shared = limit.is_divisible;
        let floor_rate = limit.scale.tokens_per_second(limit.floor.rate);
        let rate = limit.scale.tokens_per_second(limit.budget.rate);
        Self {
            name: limit.name.clone(),
            promise: match limit.promise {
                Promise::Strict => "strict",
                Promise::Elastic => "elastic",
                Promise::Local => "local",
            },
            mode: match limit.mode {
                weir_model::policy::Mode::Enforce => "enforce",
                weir_model::policy::Mode::Shadow => "shadow",
            },
            unit: match limit.cost {
                Cost::Packets => "packets",
                Cost::Bits => "bits",
                Cost::Connections => "connections",
            },
            rate,
            burst: limit.scale.tokens(limit.budget.burst),
            floor_rate: is_shared.then_some(floor_rate),
            reserved: is_shared.then(|| floor_rate * f64::from(max_members) / rate),
        }
    }
}
