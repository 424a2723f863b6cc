//! What is left when all is over: memory and descriptors of daemons, namespaces, files, pins.

use super::{Finding, Options, Report};
use crate::{fleet::Held, stage::LEAST_PACE};

/// With fewer runs than this, nothing is said about growth.
const LEAST_RUNS: usize = 6;
/// Descriptors that come and go with connections.
const SPARE_DESCRIPTORS: f64 = 24.0;
/// Memory that allocators keep.
const SPARE_GROWTH: f64 = 1.5;
/// With less of the runs judged in full than this, the machine was too busy to show anything but that
/// budgets are kept.
const LEAST_CALM: f64 = 0.5;
const MORE: f64 = f64::INFINITY;

/// What was found on the machine between runs and after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Namespaces, mounts, directories and processes that belong to no fleet in use: the most at a time.
    behind: usize,
    /// Descriptors of the suite's own after each run.
    descriptors: Vec<usize>,
}

impl Left {
    /// Adds what was found after a run.
    pub fn note(&mut self, behind: usize, descriptors: usize) {
        self.behind = self.behind.max(behind);
        self.descriptors.push(descriptors);
    }
}

/// The most of the first third and of the last; `None` of too few.
fn thirds<T>(runs: &[T], most: impl Fn(&[T]) -> f64) -> Option<(f64, f64)> {
    let third = runs.len() / 3;
    let (first, last) = (most(runs.get(..third)?), most(&runs[runs.len() - third..]));
    (runs.len() >= LEAST_RUNS && first > 0.0).then_some((first, last))
}

/// Judges what the daemons of the last third of all runs held by those of the first, and what was left
/// behind. Where one scenario was played often, its runs alone are compared: fleets of other sizes hold
/// other amounts. Pure.
#[must_use]
pub fn leaks(reports: &[Report], left: &Left, options: &Options) -> Report {
    let often = reports.last().map_or("", |report| report.name);
    let same: Vec<&Report> = reports
        .iter()
        .filter(|report| report.name == often)
        .collect();
    let compared = if same.len() >= LEAST_RUNS {
        same
    } else {
        reports.iter().collect()
    };
    let played = compared.iter().filter_map(|report| report.played.as_ref());
    let held: Vec<&[Held]> = played.map(|played| played.held.as_slice()).collect();
    let growth = |of: fn(&Held) -> f64| {
        thirds(&held, |runs| {
            let all = runs.iter().flat_map(|held| held.iter());
            all.map(of).fold(0.0, f64::max)
        })
    };
    let descriptors = growth(|held| held.descriptors as f64);
    let memory = growth(|held| held.resident_kib as f64);
    let own = thirds(&left.descriptors, |all| {
        all.iter().max().map_or(0.0, |most| *most as f64)
    });
    let paces: Vec<f64> = reports.iter().filter_map(|report| report.pace).collect();
    let calm = paces.iter().filter(|pace| **pace >= LEAST_PACE).count();
    let calm = (paces.len() >= LEAST_RUNS).then(|| calm as f64 / paces.len() as f64);
    let finding = |what: &str, measured: Option<f64>, most, unit| Finding {
        what: what.to_owned(),
        measured,
        bar: (-MORE, most),
        unit,
        judged: measured.is_some(),
    };
    let findings = vec![
        finding(
            "namespaces, mounts, directories, processes left",
            Some(left.behind as f64),
            0.0,
            "things",
        ),
        finding(
            "growth of descriptors",
            descriptors.map(|(first, last)| last - first),
            SPARE_DESCRIPTORS,
            "descriptors",
        ),
        finding(
            "growth of memory",
            memory.map(|(first, last)| last / first),
            SPARE_GROWTH,
            "times",
        ),
        finding(
            "growth of the suite's own descriptors",
            own.map(|(first, last)| last - first),
            SPARE_DESCRIPTORS,
            "descriptors",
        ),
        Finding {
            bar: (LEAST_CALM, 1.0),
            judged: options.judges_times && calm.is_some(),
            ..finding("runs that were judged by time", calm, 1.0, "of 1")
        },
    ];
    let holds = findings.iter().all(Finding::holds);
    Report {
        name: "leaks",
        story: "What is left of all runs together.",
        faults: Vec::new(),
        seed: options.seed,
        over_admission: None,
        utilisation: None,
        recovery_ms_p99: None,
        verdict: if holds { "pass" } else { "fail" },
        findings,
        settle: Vec::new(),
        pace: None,
        played: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        scenario::Played,
        stage::{self, Recording},
    };

    fn options() -> Options {
        Options {
            judges_times: true,
            ..Options::default()
        }
    }

    fn run(name: &'static str, descriptors: usize, resident_kib: u64) -> Report {
        let recording = Recording::default();
        let limit = crate::demo::limit();
        let judgement = stage::judge(&recording, &limit, &crate::fleet::Timing::default());
        let held = vec![Held {
            resident_kib,
            descriptors,
        }];
        let mut report = leaks(&[], &Left::default(), &options());
        report.name = name;
        report.pace = Some(1.0);
        report.played = Some(Played {
            recording,
            judgement,
            findings: Vec::new(),
            held,
        });
        report
    }

    fn runs(grows: fn(usize) -> (usize, u64)) -> Vec<Report> {
        let run = |number| {
            let (descriptors, memory) = grows(number);
            run("random", descriptors, memory)
        };
        (0..9).map(run).collect()
    }

    fn failed(runs: &[Report], left: &Left) -> Vec<String> {
        let report = leaks(runs, left, &options());
        let missed = report.findings.into_iter().filter(|found| !found.holds());
        missed.map(|found| found.what).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn growth_of_daemons_is_found() {
        let failed = |grows| failed(&runs(grows), &Left::default());
        assert_eq!(failed(|_| (60, 30_000)), NONE);
        assert_eq!(
            failed(|number| (60 + 5 * number, 30_000)),
            ["growth of descriptors"]
        );
        let grows = |number| (60, 30_000 + 5_000 * number as u64);
        assert_eq!(failed(grows), ["growth of memory"]);
    }

    #[test]
    fn runs_of_one_scenario_are_compared_with_each_other() {
        let mut all = vec![run("ten-join", 500, 90_000)];
        all.extend(runs(|number| (60 + 5 * number, 30_000)));
        assert_eq!(failed(&all, &Left::default()), ["growth of descriptors"]);
    }

    #[test]
    fn what_is_left_behind_is_found_though_it_goes_away() {
        let mut left = Left::default();
        left.note(0, 20);
        assert_eq!(failed(&[], &left), NONE);
        left.note(1, 20);
        left.note(0, 20);
        assert_eq!(failed(&[], &left).len(), 1);
    }

    #[test]
    fn growth_of_the_suite_is_found() {
        let mut left = Left::default();
        for number in 0..9 {
            left.note(0, 20 + 5 * number);
        }
        assert_eq!(
            failed(&[], &left),
            ["growth of the suite's own descriptors"]
        );
    }

    #[test]
    fn a_machine_that_held_most_runs_up_shows_nothing() {
        let mut all = runs(|_| (60, 30_000));
        all[..4].iter_mut().for_each(|run| run.pace = Some(0.9));
        assert_eq!(failed(&all, &Left::default()), NONE);
        all[4].pace = Some(0.9);
        assert_eq!(
            failed(&all, &Left::default()),
            ["runs that were judged by time"]
        );
    }
}
