//! Every chore of the workspace: `cargo xtask …`.
//!
//! It needs nothing but a Rust toolchain, because it is what installs everything else. What needs
//! kernels and fleets is in `weir-chaos`, which it builds and becomes.

mod alerts;
mod check;
mod dependencies;
mod ebpf;
mod output;
mod package;
mod programs;
mod setup;
mod shell;
mod tidy;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// Chores of the Weir workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Install what is missing: packages, ZooKeeper, the linker for kernel programs
    ///
    /// Example: cargo xtask setup
    Setup,
    /// Build the kernel programs and say where they are
    ///
    /// Example: cargo xtask ebpf
    Ebpf,
    /// Watch a fleet share one budget, and lose its leader
    ///
    /// Example: cargo xtask demo --nodes 3 --seconds 30
    #[command(disable_help_flag = true)]
    Demo(PassedOn),
    /// A fleet to play with: up, exec, traffic, status, down
    ///
    /// Example: cargo xtask fleet up --nodes 3
    #[command(disable_help_flag = true)]
    Fleet(PassedOn),
    /// Break a fleet on purpose, and judge what the receiver saw
    ///
    /// Example: cargo xtask chaos --scenario leader-killed --json
    #[command(disable_help_flag = true)]
    Chaos(PassedOn),
    /// The cluster of `deploy/compose`, in containers: up, flooded, killed in part, judged, down
    ///
    /// Example: cargo xtask compose test
    #[command(disable_help_flag = true)]
    Compose(PassedOn),
    /// Run every command that a document shows, as a reader would
    ///
    /// Example: cargo xtask documents docs/tutorial.md
    #[command(disable_help_flag = true)]
    Documents(PassedOn),
    /// Play whole fleets of the protocol on one virtual clock, with every fault
    ///
    /// Example: cargo xtask sim --faults all --nodes 50 --seeds 100 --ticks 600
    #[command(disable_help_flag = true)]
    Sim(PassedOn),
    /// Explore the protocol in small scopes, then at random; break each rule in turn
    ///
    /// Example: cargo xtask model --mutations --steps 10000000
    #[command(disable_help_flag = true)]
    Model(PassedOn),
    /// Measure what things cost: the data plane beside its floor and its rivals, the control plane, or a daemon that idles
    ///
    /// Example: cargo xtask bench data-plane --quick
    ///
    /// Example: cargo xtask bench control --nodes 10,100
    ///
    /// Example: cargo xtask bench idle
    #[command(disable_help_flag = true)]
    Bench(PassedOn),
    /// Make the Debian package: both programs, the unit, examples
    ///
    /// Example: cargo xtask package
    Package(package::Options),
    /// Run every check; the last line is `N passed, N failed`
    ///
    /// Example: cargo xtask test --quick
    Test(check::Options),
    /// Check licences and sources of dependencies, and what is known against them
    ///
    /// Example: cargo xtask dependencies
    Dependencies(dependencies::Options),
    /// Check architecture and style
    ///
    /// Example: cargo xtask tidy
    Tidy,
}

/// Arguments that `weir-chaos` reads.
#[derive(Debug, Args)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `false` if a check failed.
fn run(chore: Chore) -> Result<bool> {
    match chore {
        Chore::Setup => setup::run().map(|()| true),
        Chore::Ebpf => ebpf::run().map(|()| true),
        Chore::Demo(passed_on) => programs::become_lab("demo", &passed_on.arguments),
        Chore::Fleet(passed_on) => programs::become_lab("fleet", &passed_on.arguments),
        Chore::Chaos(passed_on) => programs::become_lab("chaos", &passed_on.arguments),
        Chore::Documents(passed_on) => programs::become_documents(&passed_on.arguments),
        Chore::Package(options) => package::run(&options).map(|()| true),
        Chore::Compose(passed_on) => programs::become_compose(&passed_on.arguments),
        Chore::Sim(passed_on) => programs::become_pure("weir-sim", &passed_on.arguments),
        Chore::Model(passed_on) => programs::become_pure("weir-model-check", &passed_on.arguments),
        Chore::Bench(passed_on) => match passed_on.arguments.split_first() {
            // It is about the protocol alone, and needs no privilege.
            Some((what, rest)) if what == "control" => {
                programs::become_measured("weir-control-bench", rest)
            }
            Some((what, _)) if what == "idle" => programs::become_idle(&passed_on.arguments),
            _ => programs::become_lab("bench", &passed_on.arguments),
        },
        Chore::Test(options) => check::run(&options),
        Chore::Dependencies(options) => dependencies::run(&options),
        Chore::Tidy => tidy::run(),
    }
}
