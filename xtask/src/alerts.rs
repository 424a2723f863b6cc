//! What Prometheus and Grafana are given: alert rules do what their tests say, and every expression is one.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{check::Tally, output, setup, shell};

const RULES: &str = "deploy/prometheus/alerts.yml";
const TESTS: &str = "deploy/prometheus/alerts.test.yml";
const SCRAPED: &str = "deploy/prometheus/prometheus.yml";
const EXAMPLE: &str = "deploy/examples/five-hosts/prometheus.yml";
const DASHBOARD: &str = "deploy/grafana/dashboards/weir.json";
/// What Grafana puts into expressions, and something that it might be.
const VARIABLES: [(&str, &str); 3] = [
    ("$__rate_interval", "1m"),
    ("$fleet", "edge"),
    ("$limit", ".*"),
];

/// Asks `promtool`.
pub(crate) fn tally() -> Result<Tally> {
    let promtool = setup::promtool()?;
    let expressions = expressions()?;
    let mut tally = Tally::default();
    let expressions = expressions.display().to_string();
    for (what, arguments) in [
        ("alert rules", &["check", "rules", RULES][..]),
        ("tests of the alert rules", &["test", "rules", TESTS]),
        (
            "expressions of the dashboard",
            &["check", "rules", &expressions],
        ),
        (
            "what is scraped",
            &["check", "config", "--syntax-only", SCRAPED, EXAMPLE],
        ),
    ] {
        let mut command = Command::new(&promtool);
        let asked = shell::output(command.args(arguments).current_dir(shell::root()));
        match &asked {
            Ok(_) => output::good(what),
            Err(error) => output::bad(&format!("{what}: {error:#}")),
        }
        tally += Tally::of(asked.is_ok());
    }
    Ok(tally)
}

/// A file of rules with every expression of the dashboard, for `promtool` to read.
fn expressions() -> Result<PathBuf> {
    let text = fs::read_to_string(shell::root().join(DASHBOARD)).context(DASHBOARD)?;
    let dashboard: Value = serde_json::from_str(&text).context(DASHBOARD)?;
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    anyhow::ensure!(!found.is_empty(), "{DASHBOARD} asks for nothing");
    let rules = found.iter().enumerate().map(|(number, expression)| {
        let expression = VARIABLES
            .iter()
            .fold((*expression).to_owned(), |text, (variable, value)| {
                text.replace(variable, value)
            });
        // YAML reads what JSON writes.
        let quoted = Value::from(expression);
        format!("      - record: weir:panel:{number}\n        expr: {quoted}\n")
    });
    let rules: String = rules.collect();
    let path = setup::tools().join("dashboard.rules.yml");
    fs::write(
        &path,
        format!("groups:\n  - name: dashboard\n    rules:\n{rules}"),
    )
    .with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Every `expr` that is anywhere within.
fn collect<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) if key == "expr" => found.push(text),
                    value => collect(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}
