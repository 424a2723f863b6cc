//! `weir`: what an operator does to a fleet.
//!
//! Results go to standard output, everything else to standard error. The exit code is 0 on success,
//! 1 when a check or a promise fails or the fleet cannot be asked, and 2 on wrong usage.

mod address;
mod author;
mod cli;
mod client;
mod command;
mod number;
mod replay;
mod source;
mod table;
mod top;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

/// A failed check, a broken promise, or a fleet that cannot be asked.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
