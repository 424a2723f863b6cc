//! `bench`: what things cost.

use std::{env, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use weir_chaos::{
    bench::{self, gate, idle, plot, report::Report},
    interrupt::Interrupt,
};

/// Where records are kept.
const RECORDS: &str = "docs/bench";
/// Windows of each variant in the short form.
const QUICK_ROUNDS: usize = 3;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The XDP path against its floor and its rivals: packets per second, counted at the receiver
    ///
    /// Example: bench data-plane --quick
    DataPlane(DataPlane),
    /// A daemon of three, with limits and without packets: memory and CPU time
    ///
    /// Example: bench idle --seconds 60
    Idle(Idle),
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// Limits that are in force
    #[arg(long, value_name = "N", default_value_t = 100)]
    limits: usize,
    /// How long daemons are watched
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// One JSON object on standard output; progress goes to standard error either way
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DataPlane {
    /// The figures that have bars and one of each other kind, briefly
    #[arg(long)]
    quick: bool,
    /// One JSON object on standard output; progress goes to standard error either way
    #[arg(long)]
    json: bool,
    /// Windows of each variant, in turn: ratios are of windows that follow each other
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// Milliseconds of a window
    #[arg(long, value_name = "MS", default_value_t = 200)]
    window: u64,
    /// Fail if a ratio is below its bar
    #[arg(long)]
    gate: bool,
    /// The file with the bars
    #[arg(long, value_name = "FILE", default_value = gate::default_path().as_os_str())]
    bars: PathBuf,
    /// Keep the figures as those of the repository: tables, JSON and a picture
    #[arg(long)]
    record: bool,
    /// The daemon to measure [default: that of this build]
    #[arg(long, value_name = "FILE")]
    weir_node: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn run(self, interrupt: &Interrupt) -> Result<bool> {
        match self {
            Self::DataPlane(data_plane) => data_plane.run(interrupt),
            Self::Idle(idle) => idle.run(interrupt),
        }
    }
}

impl Idle {
    /// `false` if a daemon costs more than its bars.
    fn run(self, interrupt: &Interrupt) -> Result<bool> {
        let options = idle::Options {
            limits: self.limits,
            length: Duration::from_secs(self.seconds.max(1)),
        };
        let costs = idle::run(options, interrupt)?;
        if self.json {
            println!("{}", serde_json::to_string(&costs)?);
        } else {
            print!("{}", idle::markdown(options, &costs));
        }
        for cost in costs.iter().filter(|cost| !cost.is_low()) {
            eprintln!(
                "missed: {} costs more than {} MiB or {} % of a CPU",
                cost.host,
                idle::RESIDENT_MIB,
                idle::CPU_PERCENT
            );
        }
        Ok(costs.iter().all(idle::Cost::is_low))
    }
}

impl DataPlane {
    fn run(self, interrupt: &Interrupt) -> Result<bool> {
        let rounds = self
            .pairs
            .unwrap_or(if self.quick { QUICK_ROUNDS } else { 7 });
        let options = bench::Options {
            quick: self.quick,
            rounds: rounds.max(1),
            window: Duration::from_millis(self.window.max(1)),
            weir_node: match self.weir_node {
                Some(path) => path,
                None => beside_this("weir-node")?,
            },
        };
        // A file that cannot be read is better known before than after.
        let bars = if self.gate {
            gate::read(&self.bars)?
        } else {
            Vec::new()
        };
        let report = bench::run(&options, interrupt)?;
        if self.json {
            println!("{}", report.json()?);
        } else {
            print!("{}", report.markdown());
        }
        if self.record {
            keep(&report)?;
        }
        let misses = gate::misses(&bars, &report.ratios);
        for miss in &misses {
            eprintln!("missed: {miss}");
        }
        Ok(misses.is_empty())
    }
}

/// A program of this build.
fn beside_this(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    Ok(own.with_file_name(name))
}

fn keep(report: &Report) -> Result<()> {
    let file = |ending: &str| PathBuf::from(format!("{RECORDS}/data-plane.{ending}"));
    fs::create_dir_all(RECORDS).context(RECORDS)?;
    let text = format!(
        "# What the data plane costs\n\nWritten by `cargo xtask bench data-plane --record`; how it is \
         measured is in [README.md](README.md).\n\n![packets per second, and a good client's \
         requests](data-plane.svg)\n\n{}",
        report.markdown()
    );
    fs::write(file("md"), text)?;
    fs::write(file("json"), report.json()? + "\n")?;
    plot::draw(report, &file("svg"))
}
