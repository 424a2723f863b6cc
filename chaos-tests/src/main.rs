//! `weir-chaos`: fleets of real kernels on one machine, to look at, to play with and to break.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use weir_chaos::{clock::WaitError, interrupt::Interrupt};

/// What shells report for a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    let result = Interrupt::on_signals()
        .map_err(anyhow::Error::from)
        .and_then(|interrupt| arguments.run(&interrupt));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if matches!(error.downcast_ref(), Some(WaitError::Interrupted)) => {
            eprintln!("interrupted; everything that was made is removed");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
