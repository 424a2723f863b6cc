//! The command line.

mod bench;
mod chaos;
mod compose;
mod demo;
mod documents;
mod fleet;
mod session;
mod traffic;

use anyhow::Result;
use clap::{Parser, Subcommand};
use weir_chaos::interrupt::Interrupt;

/// Fleets of real hosts on one machine: network namespaces, XDP, ZooKeeper, traffic, faults.
#[derive(Debug, Parser)]
#[command(name = "weir-chaos", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a fleet, send traffic to it, run commands in it, take it down
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Watch a fleet share one budget, and lose its leader
    ///
    /// Example: demo --nodes 3 --seconds 30
    Demo(demo::Demo),
    /// Break a fleet on purpose, and judge what the receiver saw
    ///
    /// Example: chaos --scenario leader-killed --json
    Chaos(chaos::Chaos),
    /// The cluster of `deploy/compose`, in containers
    #[command(subcommand)]
    Compose(compose::Command),
    /// Run every command that a document shows
    ///
    /// Example: documents docs/tutorial.md
    Documents(documents::Documents),
    /// Measure what things cost
    ///
    /// Example: bench data-plane --quick
    #[command(subcommand)]
    Bench(bench::Bench),
}

impl Arguments {
    /// Does what was asked for; `false` if a check or promise failed.
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        match self.command {
            Command::Fleet(command) => command.run(interrupt),
            Command::Demo(demo) => demo.run(interrupt),
            Command::Chaos(chaos) => chaos.run(interrupt),
            Command::Compose(command) => command.run(interrupt),
            Command::Documents(documents) => documents.run(interrupt),
            Command::Bench(bench) => bench.run(interrupt),
        }
    }
}
