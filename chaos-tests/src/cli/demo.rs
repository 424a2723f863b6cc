//! `demo`: the demonstration.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
use weir_chaos::{demo, interrupt::Interrupt};

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many hosts
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// How long traffic flows
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// How many ZooKeeper servers
    #[arg(long, default_value_t = 1)]
    zookeeper: usize,
    /// Directory for the plot
    #[arg(long, default_value = demo::default_out().as_os_str())]
    out: PathBuf,
    /// One JSON object on standard output; the view goes to standard error either way
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        let options = demo::Options {
            nodes: self.nodes,
            length: Duration::from_secs(self.seconds),
            zookeeper: self.zookeeper,
            out: self.out,
        };
        let figures = demo::run(&options, interrupt)?;
        if self.json {
            eprint!("{}", figures.summary());
            println!("{}", figures.json());
        } else {
            print!("{}", figures.summary());
        }
        Ok(figures.passed())
    }
}
