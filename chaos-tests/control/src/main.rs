//! `bench control`: what a leader's tick costs, what is sent, and how fast shares follow, at scale.

mod fleet;
mod grid;
mod load;
mod loopback;
mod measure;
mod processor;
mod start;
mod table;
mod wire;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{grid::Grid, measure::Row};

/// What the control plane costs: leader tick, bytes, memory, convergence
///
/// Over gRPC: a leader behind the real service and all nodes' clients in one process, on loopback
/// and in real time, a thread for the leader and one for the nodes; as far as two cores carry it.
/// What they do not carry is reported, and nothing larger is tried.
///
/// Simulated: the protocol's real core and its real wire format, on one thread: the leader and all nodes
/// take turns, and only what the leader does is timed, in CPU time.
///
/// Example: cargo xtask bench control --nodes 10,100 --limits 10,100
#[derive(Clone, Debug, Parser)]
#[command(name = "weir-control-bench", version)]
struct Arguments {
    /// Fleets of so many nodes
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000", value_parser = positive)]
    nodes: Vec<usize>,
    /// Policies of so many limits
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000", value_parser = positive)]
    limits: Vec<usize>,
    /// Percent of the pairs of node and limit whose demand is another one each tick
    #[arg(long, value_delimiter = ',', default_value = "0,10,100", value_parser = clap::value_parser!(u32).range(0..=100))]
    changing: Vec<u32>,
    /// What is between the leader and its nodes
    #[arg(long, value_delimiter = ',', default_value = "grpc,simulated")]
    transport: Vec<Transport>,
    /// Ticks that are measured; a p99 needs a hundred
    #[arg(long, default_value_t = 120, value_parser = positive)]
    ticks: usize,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// The tables of docs/bench/control.md on standard output
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// Real streams on loopback
    Grpc,
    /// The messages alone
    Simulated,
}

/// A setting that two cores do not carry over gRPC.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct NotCarried {
    nodes: usize,
    limits: usize,
    changing: u32,
    why: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    rows: Vec<Row>,
    not_carried: Vec<NotCarried>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("there has to be one at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
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
    let report = Grid::new(arguments).run()?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else if arguments.markdown {
        print!("{}", table::markdown(&report));
    }
    Ok(())
}
