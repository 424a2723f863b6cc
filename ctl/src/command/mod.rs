//! What each command does.

mod apply;
mod cert;
mod check;
mod confirm;
mod explain;
mod history;
mod limits;
mod manual;
mod membership;
mod nodes;
mod replay;
mod rollback;
mod run;
mod status;
mod top;
mod voters;

use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    cli::{Cli, Command},
    client::{self, Client},
};

/// Wrong usage, as `clap` exits too.
const WRONG_USAGE: u8 = 2;

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Check(arguments) => check::run(&arguments.file, cli.json),
        Command::Apply(arguments) => apply::run(&cli, arguments),
        Command::Diff(arguments) => apply::diff(&cli, &arguments.file),
        Command::Confirm(arguments) => confirm::run(&cli, arguments),
        Command::Rollback(arguments) => rollback::run(&cli, arguments),
        Command::History => history::run(&cli),
        Command::Drain(arguments) => membership::drain(&cli, arguments),
        Command::Remove(arguments) => membership::remove(&cli, arguments),
        Command::Voters => voters::run(&cli),
        Command::Status => status::run(&cli),
        Command::Limits(arguments) => limits::run(&cli, arguments),
        Command::Nodes => nodes::run(&cli),
        Command::Top(arguments) => top::run(&cli, arguments),
        Command::Explain(arguments) => explain::run(&cli, arguments),
        Command::Cert(arguments) => cert::run(&cli, arguments),
        Command::Replay(arguments) => replay::run(&cli, arguments),
        Command::Completions(arguments) => Ok(manual::completions(arguments.shell)),
        Command::Manual(arguments) => manual::pages(&arguments.directory),
        Command::Run(arguments) => Err(run::run(&cli, arguments)),
    }
}

/// Connects, and waits for what is asked of the daemon.
fn ask<T>(cli: &Cli, question: impl AsyncFnOnce(Client) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(async {
        question(client::connect(&cli.address, &cli.certificates, cli.timeout).await?).await
    })
}

/// Prints an object on one line.
fn print_json(object: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(object).context("a reply that JSON cannot hold")?;
    println!("{line}");
    Ok(())
}
