//! `model`: the protocol, explored.

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};
use clap::Parser;
use serde_json::{Value, json};
use weir_coord_core::rules::Mutation;
use weir_model_check::{
    catalogue::{AT_RANDOM, COMPLETE, DEEP},
    explore::{Bounds, explore},
    mutations::hunt,
    scope::Scope,
    store::Store,
    trace::readable,
    walk::walk,
};

/// Bytes for the table of states, unless more is asked for.
const BYTES: usize = 1 << 29;
/// And if it is: as much again goes to the states that are still to be explored.
const BYTES_DEEP: usize = 4 << 30;

/// Explicit-state model checking of the protocol, over its real core: first some small scopes to
/// the last state, then random steps in larger ones
///
/// Example: cargo xtask model --steps 10000000 --json
#[derive(Debug, Parser)]
#[command(name = "weir-model-check", version)]
struct Model {
    /// Break every rule in turn, and say what finds it
    #[arg(long)]
    mutations: bool,
    /// Random steps, over all scopes
    #[arg(long, default_value_t = 10_000_000)]
    steps: u64,
    /// What the random steps begin with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// This scope only; `list` lists them
    #[arg(long)]
    scope: Option<String>,
    /// Also explore what takes minutes and gigabytes
    #[arg(long)]
    deep: bool,
    /// Most states of one scope
    #[arg(long, default_value_t = 400_000_000)]
    states: usize,
    /// Only these rules are broken, by name
    #[arg(long, requires = "mutations")]
    rule: Vec<String>,
    /// Print the trace of each broken rule
    #[arg(long)]
    traces: bool,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// What all scopes together came to.
#[derive(Debug, Default)]
struct Total {
    scopes: Vec<Value>,
    states: usize,
    random_steps: u64,
    violations: usize,
    is_incomplete: bool,
}

fn main() -> ExitCode {
    match Model::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl Model {
    fn run(&self) -> Result<bool> {
        self.check_scope()?;
        let mut total = Total::default();
        let is_deep = |scope: &Scope| DEEP.iter().any(|deep| deep.name == scope.name);
        for scope in COMPLETE.into_iter().chain(DEEP) {
            let is_asked_for = self.deep || self.scope.is_some() || !is_deep(&scope);
            if self.is_chosen(&scope) && is_asked_for {
                self.explore(&scope, &mut total);
            }
        }
        let chosen: Vec<Scope> = AT_RANDOM
            .into_iter()
            .filter(|scope| self.is_chosen(scope))
            .collect();
        for scope in &chosen {
            self.walk(scope, self.steps / chosen.len() as u64, &mut total);
        }
        let mutations = self.mutations.then(|| self.hunt_all());
        let are_all_caught = mutations
            .iter()
            .flatten()
            .all(|row| row["caught"] == json!(true));
        eprintln!(
            "{} states, {} random steps, {} violations",
            total.states, total.random_steps, total.violations
        );
        if self.json {
            let mut object = json!({
                "scope": total.scopes,
                "states": total.states,
                "random_steps": total.random_steps,
                "violations": total.violations,
                "complete": !total.is_incomplete,
            });
            if let Some(mutations) = &mutations {
                object["mutations"] = json!(mutations);
            }
            println!("{object}");
        }
        Ok(total.violations == 0 && !total.is_incomplete && are_all_caught)
    }

    fn check_scope(&self) -> Result<()> {
        let Some(name) = &self.scope else {
            return Ok(());
        };
        let all: Vec<Scope> = COMPLETE.into_iter().chain(DEEP).chain(AT_RANDOM).collect();
        if !all.iter().any(|scope| scope.name == name) {
            let lines = all.iter().map(|scope| format!("  {}: {scope}", scope.name));
            let lines: Vec<String> = lines.collect();
            bail!("no scope {name:?}; there are:\n{}", lines.join("\n"));
        }
        Ok(())
    }

    fn is_chosen(&self, scope: &Scope) -> bool {
        self.scope.as_ref().is_none_or(|name| name == scope.name)
    }

    fn explore(&self, scope: &Scope, total: &mut Total) {
        let begun = Instant::now();
        let mut store = Store::new(scope.clone());
        let bounds = Bounds {
            states: self.states,
            bytes: if self.deep { BYTES_DEEP } else { BYTES },
        };
        let explored = explore(&mut store, bounds);
        total.states += explored.states;
        total.is_incomplete |= !explored.is_complete;
        total.scopes.push(json!({
            "name": scope.name,
            "bounds": scope.to_string(),
            "states": explored.states,
            "depth": explored.depth,
            "complete": explored.is_complete,
        }));
        eprintln!(
            "{:<14} {:>11} states, {} steps deep, {} ({:.1} s)",
            scope.name,
            explored.states,
            explored.depth,
            if explored.is_complete {
                "all of them"
            } else {
                "not all of them"
            },
            begun.elapsed().as_secs_f64(),
        );
        if let Some(violation) = &explored.violation {
            total.violations += 1;
            eprintln!("{}", readable(&mut store, violation));
        }
    }

    fn walk(&self, scope: &Scope, steps: u64, total: &mut Total) {
        let begun = Instant::now();
        let walked = walk(scope, steps, self.seed);
        total.random_steps += walked.steps;
        total.scopes.push(json!({
            "name": scope.name,
            "bounds": scope.to_string(),
            "random_steps": walked.steps,
            "complete": false,
        }));
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!(
            "{:<14} {:>11} random steps in {} walks ({seconds:.1} s, {:.0} a second)",
            scope.name,
            walked.steps,
            walked.walks,
            walked.steps as f64 / seconds
        );
        if walked.violation.is_some() {
            total.violations += 1;
            eprintln!("{}", walked.trace);
        }
    }

    /// Every rule is broken in turn; what the model does not see is looked for in simulations.
    fn hunt_all(&self) -> Vec<Value> {
        let named = |mutation: &Mutation| {
            self.rule.is_empty() || self.rule.contains(&format!("{mutation:?}"))
        };
        let rows = Mutation::ALL.into_iter().filter(named).map(|mutation| {
            let name = format!("{mutation:?}");
            let found = hunt(mutation);
            if let Some(found) = found.as_ref().filter(|_| self.traces) {
                eprintln!("{}", found.trace);
            }
            let by = found.map_or_else(
                || weir_sim::mutations::hunt(mutation).map(|found| found.to_string()),
                |found| Some(found.to_string()),
            );
            match &by {
                Some(by) => eprintln!("✓ {name:<26} {by}"),
                None => eprintln!("✗ {name:<26} not found"),
            }
            json!({ "name": name, "caught": by.is_some(), "by": by })
        });
        rows.collect()
    }
}
