//! `compose`: the cluster in containers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use weir_chaos::{compose, interrupt::Interrupt, progress::Progress};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the images, bring the cluster up, kill what is in it under flood, judge, take it down
    ///
    /// Example: compose test --json
    Test(Test),
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Where a Docker daemon keeps its files that is started because none answers
    #[arg(long, default_value = "target/compose")]
    files: PathBuf,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        let Self::Test(test) = self;
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let binaries = own.parent().context("a program is in a directory")?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let repository = repository.context("this package is in a folder of the root")?;
        let mut progress = Progress::default();
        let outcome = compose::test(repository, binaries, &test.files, interrupt, &mut progress)?;
        for check in &outcome.checks {
            let mark = if check.holds() { "✓" } else { "✗" };
            let (least, most) = check.bar;
            eprintln!(
                "  {mark} {:<52}{:>10.4}   {least} to {most}",
                check.what, check.measured
            );
        }
        if test.json {
            println!("{}", serde_json::to_string(&outcome)?);
        }
        Ok(outcome.verdict == "pass")
    }
}
