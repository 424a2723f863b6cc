//! `bench control`: what a leader's tick costs, what is sent, and how fast shares follow, at scale.

mod fleet;
mod load;
mod measure;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use crate::measure::{Plan, Row, measure};

/// What the control plane costs: leader tick, bytes, convergence, for simulated nodes
///
/// The protocol's real core and its real wire format, on one thread: the leader and all nodes take
/// turns, and only what the leader does is timed, in CPU time.
///
/// Example: cargo xtask bench control --nodes 10,100 --limits 10,100
#[derive(Debug, Parser)]
#[command(name = "weir-control-bench", version)]
struct Arguments {
    /// Fleets of so many nodes
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    nodes: Vec<usize>,
    /// Policies of so many limits
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    limits: Vec<usize>,
    /// Percent of the pairs of node and limit whose demand is another one each tick
    #[arg(long, value_delimiter = ',', default_value = "0,10,100", value_parser = clap::value_parser!(u32).range(0..=100))]
    changing: Vec<u32>,
    /// Ticks that are measured; a p99 needs a hundred
    #[arg(long, default_value_t = 120)]
    ticks: usize,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut rows = Vec::new();
    eprintln!("{}", Row::HEADING);
    for &nodes in &arguments.nodes {
        for &limits in &arguments.limits {
            for &changing in &arguments.changing {
                let row = measure(Plan {
                    nodes,
                    limits,
                    changing,
                    ticks: arguments.ticks,
                })?;
                eprintln!("{row}");
                rows.push(row);
            }
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&Report { rows })?);
    }
    Ok(())
}
