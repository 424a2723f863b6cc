//! `documents`: the commands that documents show.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use weir_chaos::{documents, interrupt::Interrupt, progress::Progress};

#[derive(Debug, Args)]
pub(crate) struct Documents {
    /// Only these, such as `docs/tutorial.md`
    documents: Vec<String>,
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
}

impl Documents {
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Result<bool> {
        let tally = documents::run(&self.documents, interrupt, &mut Progress::default())?;
        for failure in &tally.failures {
            eprintln!("  ✗ {failure}");
        }
        if self.json {
            println!(
                "{}",
                json!({ "run": tally.run, "known": tally.known, "failures": tally.failures })
            );
        } else {
            println!(
                "{} commands of documents run, {} known, {} failures",
                tally.run,
                tally.known,
                tally.failures.len()
            );
        }
        Ok(tally.failures.is_empty())
    }
}
