//! Faults on purpose, and verdicts from what the receiver saw.

mod broken;
mod catalogue;
mod declared;
mod expect;
mod ground;
mod hot;
mod leaks;
mod list;
mod operations;
mod quiet;
mod repeated;
mod restored;
mod take_over;
mod traces;
mod zookeeper_lost;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

pub use self::{
    broken::{BROKEN, BrokenRule},
    declared::{Declared, Played},
    expect::{Edge, Expect},
    ground::{Ground, Needs},
    leaks::{Left, leaks},
    list::SCENARIOS,
    traces::Traces,
};
use crate::{interrupt::Interrupt, progress::Progress};

/// Most seconds of budget that may be admitted above it, whatever happens.
pub const OVER_ADMISSION: f64 = 0.005;
/// The unit of what was admitted too much.
pub const IN_BUDGET: &str = "s of budget";
/// Characters of why a run could not be played; all of it is on standard error.
const LONGEST_REASON: usize = 160;
/// The budget of the flood, in packets per second.
pub const BUDGET: f64 = ground::RATE;

/// A scenario: its name, what it is about, and how it is played.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is about, in one line.
    pub story: &'static str,
    /// Whether it is in the short form, which continuous integration runs.
    pub is_short: bool,
    /// How.
    pub kind: Kind,
}

/// How a scenario is played.
#[derive(Clone, Copy)]
pub enum Kind {
    /// By what is declared for a seed.
    Declared(fn(u64) -> Declared),
    /// By the same, over and over, for a percentile.
    Repeated(fn(u64) -> Declared),
    /// By a procedure, on a fleet of its own.
    Procedure(fn(&Path, &Options, &Interrupt, &mut Progress) -> Result<Vec<Finding>>),
}

/// What may be asked of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How often a procedure that repeats itself does its worst. A 99th percentile needs 100.
    pub events: usize,
    /// What a scenario draws its random choices from.
    pub seed: u64,
    /// The rule that the daemons break.
    pub broken_rule: Option<String>,
    /// Whether figures that are times are judged, and not only shown.
    pub judges_times: bool,
}

/// One thing that has to hold, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// The figure, in `unit`; `None` if it could not be measured.
    pub measured: Option<f64>,
    /// The least and the most that it may be.
    pub bar: (f64, f64),
    /// Of the figures.
    pub unit: &'static str,
    /// Whether it is judged: what depends on time is not, where the machine held everybody up.
    pub judged: bool,
}

impl Finding {
    /// Whether it holds, or is not judged. What could not be measured does not hold.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.judged || self.is_met()
    }

    /// Whether it is a time, which a machine that holds everybody up makes longer.
    #[must_use]
    pub fn is_time(&self) -> bool {
        matches!(self.unit, "ms" | "ticks")
    }

    /// Whether the bar is met, judged or not.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let within = |measured| (self.bar.0..=self.bar.1).contains(&measured);
        self.measured.is_some_and(within)
    }
}

/// What a run of a scenario showed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub name: &'static str,
    /// What it is about.
    pub story: &'static str,
    /// What was done to the fleet.
    pub faults: Vec<String>,
    /// What its random choices were drawn from.
    pub seed: u64,
    /// Seconds of budget; none where no traffic is sent.
    pub over_admission: Option<f64>,
    /// Outside the settle intervals.
    pub utilisation: Option<f64>,
    /// Until the budget was fully in use again. With less than 100 events, the longest.
    pub recovery_ms_p99: Option<f64>,
    /// `pass` or `fail`.
    pub verdict: &'static str,
    /// Everything that was judged.
    pub findings: Vec<Finding>,
    /// What was left out of the utilisation, and why: milliseconds from the beginning.
    pub settle: Vec<(u64, u64, String)>,
    /// What was sent, as a part of what was asked for. With too little, times are not judged.
    pub pace: Option<f64>,
    /// What was recorded, for the report.
    #[serde(skip)]
    pub played: Option<Played>,
}

/// Names of the figures that every scenario has.
pub(crate) mod figure {
    pub(crate) const OVER_ADMISSION: &str = "never above budget";
    pub(crate) const UTILISATION: &str = "utilisation";
    pub(crate) const RECOVERY: &str = "budget fully in use again";
}

impl Scenario {
    /// What is said of a run that could not be played.
    #[must_use]
    pub fn unplayed(&self, options: &Options, why: &anyhow::Error) -> Report {
        let what = why.to_string();
        let what: String = what
            .lines()
            .next()
            .unwrap_or("")
            .chars()
            .take(LONGEST_REASON)
            .collect();
        Report {
            name: self.name,
            story: self.story,
            faults: Vec::new(),
            seed: options.seed,
            over_admission: None,
            utilisation: None,
            recovery_ms_p99: None,
            verdict: "fail",
            findings: vec![Finding {
                what: format!("could be played: {what}"),
                measured: None,
                bar: (1.0, 1.0),
                unit: "of 1",
                judged: true,
            }],
            settle: Vec::new(),
            pace: None,
            played: None,
        }
    }

    /// Runs it: on the fleet that is there, if that fits, or on a new one.
    ///
    /// # Errors
    ///
    /// If the fleet cannot be made or the user interrupts. A promise that is broken is no error.
    pub fn run(
        &self,
        there: &mut Option<Ground>,
        directory: &Path,
        options: &Options,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Result<Report> {
        let (mut findings, played) = match self.kind {
            Kind::Declared(declare) => {
                let mut declared = declare(options.seed);
                declared.needs.broken_rule.clone_from(&options.broken_rule);
                let played = declared.play(there, directory, interrupt, progress)?;
                (played.findings.clone(), Some(played))
            }
            Kind::Repeated(declare) => {
                let mut declared = declare(options.seed);
                declared.needs.broken_rule.clone_from(&options.broken_rule);
                repeated::play(&declared, options, there, directory, interrupt, progress)?
            }
            Kind::Procedure(run) => {
                // It makes a fleet of its own.
                drop(there.take());
                (run(directory, options, interrupt, progress)?, None)
            }
        };
        for finding in &mut findings {
            finding.judged &= options.judges_times || !finding.is_time();
        }
        let figure = |what: &str| findings.iter().find(|found| found.what == what)?.measured;
        let holds = findings.iter().all(Finding::holds);
        let begin = played
            .as_ref()
            .and_then(|played| Some(played.recording.events.first()?.bin))
            .unwrap_or(0);
        let settle = played.iter().flat_map(|played| &played.judgement.settle);
        let settle = settle.map(|settle| {
            let bins = &settle.bins;
            (bins.start - begin, bins.end - begin, settle.why.clone())
        });
        let episodes = played.iter().flat_map(|played| played.recording.episodes());
        Ok(Report {
            name: self.name,
            story: self.story,
            faults: episodes.map(|episode| episode.fault.label()).collect(),
            seed: options.seed,
            over_admission: figure(figure::OVER_ADMISSION),
            utilisation: played
                .as_ref()
                .and_then(|played| played.judgement.utilisation),
            recovery_ms_p99: figure(figure::RECOVERY),
            verdict: if holds { "pass" } else { "fail" },
            settle: settle.collect(),
            pace: played.as_ref().map(|played| played.judgement.pace),
            findings,
            played,
        })
    }
}
