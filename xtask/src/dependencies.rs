//! What the workspace is built of: licences, sources, what is banned, and what is known against it.

use anyhow::Result;
use clap::Args;

use crate::{output, setup, shell};

/// Holds the dependencies to `deny.toml`; a subcommand of cargo.
const CHECKER: &str = "cargo-deny";
const CHECKER_VERSION: &str = "0.20.2";
/// What is checked without a network.
const HERE: [&str; 3] = ["licenses", "bans", "sources"];

/// What is checked.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave out what is known against dependencies: its database is on the internet
    #[arg(long)]
    without_advisories: bool,
}

/// `false` if something does not hold, or could not be checked.
pub(crate) fn run(options: &Options) -> Result<bool> {
    setup::program(CHECKER, CHECKER_VERSION)?;
    let mut holds = said("licences, bans, sources", deny("check").args(HERE));
    if options.without_advisories {
        output::note("advisories: not checked");
        return Ok(holds);
    }
    let mut fetch = deny("fetch");
    if shell::run(fetch.arg("db")).is_err() {
        output::bad(
            "advisories: not checked, for their database cannot be reached; \
             `--without-advisories` leaves them out",
        );
        return Ok(false);
    }
    holds &= said("advisories", deny("check").arg("advisories"));
    Ok(holds)
}

/// Warnings are of crates that are there in two versions, which is the business of their makers.
fn deny(what: &str) -> std::process::Command {
    shell::cargo(&["deny", "--locked", "--log-level", "error", what])
}

fn said(what: &str, command: &mut std::process::Command) -> bool {
    match shell::run(command) {
        Ok(()) => {
            output::good(&format!("{what}: as deny.toml says"));
            true
        }
        Err(error) => {
            output::bad(&format!("{what}: {error:#}"));
            false
        }
    }
}
