//! Faults on purpose, and verdicts from what the receiver saw.

mod leader_killed;
mod operations;
mod quiet;
mod take_over;
mod zookeeper_lost;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::{interrupt::Interrupt, progress::Progress};

/// Most seconds of budget that may be admitted above it, whatever happens.
pub const OVER_ADMISSION: f64 = 0.005;

/// A scenario: its name, what it does, and how.
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What is done to the fleet.
    pub faults: &'static [&'static str],
    run: fn(&Path, &Options, &Interrupt, &mut Progress) -> Result<Vec<Finding>>,
}

/// What may be asked of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often a scenario that repeats itself does its worst. A 99th percentile needs 100.
    pub events: usize,
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "leader-killed",
        faults: &[
            "SIGKILL of the leader's daemon under flood",
            "its return after its lease",
        ],
        run: leader_killed::run,
    },
    Scenario {
        name: "take-over",
        faults: &["SIGKILL and SIGSTOP of the leader's daemon, in turn, over and over"],
        run: take_over::run,
    },
    Scenario {
        name: "operations",
        faults: &[
            "SIGKILL of the leader while a change waits to be confirmed",
            "removal of a member that runs, and of one that is gone",
        ],
        run: operations::run,
    },
    Scenario {
        name: "zookeeper-lost",
        faults: &[
            "SIGKILL of ZooKeeper's leader",
            "ZooKeeper without quorum for 30 s",
        ],
        run: zookeeper_lost::run,
    },
];

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
        let within = |measured| (self.bar.0..=self.bar.1).contains(&measured);
        !self.judged || self.measured.is_some_and(within)
    }
}

/// What a run of a scenario showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub name: &'static str,
    /// What was done to the fleet.
    pub faults: &'static [&'static str],
    /// Seconds of budget.
    pub over_admission: Option<f64>,
    /// Outside the settle intervals.
    pub utilisation: Option<f64>,
    /// Until the budget was fully in use again. With less than 100 events, the longest.
    pub recovery_ms_p99: Option<f64>,
    /// `pass` or `fail`.
    pub verdict: &'static str,
    /// Everything that was judged.
    pub findings: Vec<Finding>,
}

/// Names of the figures that every scenario has.
pub(crate) mod figure {
    pub(crate) const OVER_ADMISSION: &str = "never above budget";
    pub(crate) const UTILISATION: &str = "utilisation";
    pub(crate) const RECOVERY: &str = "budget fully in use again";
}

impl Scenario {
    /// Runs it on a fleet of its own, which is gone when this returns. A picture of what was
    /// counted goes to `directory`.
    ///
    /// # Errors
    ///
    /// If the fleet cannot be made or the user interrupts. A promise that is broken is no error.
    pub fn run(
        &self,
        directory: &Path,
        options: &Options,
        interrupt: &Interrupt,
        progress: &mut Progress,
    ) -> Result<Report> {
        let findings = (self.run)(directory, options, interrupt, progress)?;
        let figure = |what: &str| findings.iter().find(|found| found.what == what)?.measured;
        Ok(Report {
            name: self.name,
            faults: self.faults,
            over_admission: figure(figure::OVER_ADMISSION),
            utilisation: figure(figure::UTILISATION),
            recovery_ms_p99: figure(figure::RECOVERY),
            verdict: if findings.iter().all(Finding::holds) {
                "pass"
            } else {
                "fail"
            },
            findings,
        })
    }
}
