//! Shell completions and manual pages, both made from the definition of the command line.

use std::{fs, io, path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints what a shell reads to complete `weir`.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "weir", &mut script);
    // A reader that closes the pipe has read enough.
    let _closed = io::Write::write_all(&mut io::stdout(), &script);
    ExitCode::SUCCESS
}

/// Writes `weir.1` and a page for each command into a directory.
pub(super) fn pages(directory: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    // `weir help COMMAND` is the same text as `weir COMMAND --help`.
    let mut command = Cli::command().disable_help_subcommand(true);
    // Options that all commands take appear on every page, as `--help` shows them.
    command.build();
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
