//! One script over and over on the same fleet, for a percentile.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Declared, Finding, Ground, Options, Played, figure};
use crate::{interrupt::Interrupt, progress::Progress};

/// With less of the runs judged by time than this, the machine was too busy for a percentile.
const LEAST_JUDGED: f64 = 0.5;

/// Plays `declared` as often as is asked for, and says of each finding the worst, and of the recovery the
/// 99th percentile.
///
/// # Errors
///
/// If the fleet cannot be made, or a part of the script not be done.
pub(super) fn play(
    declared: &Declared,
    options: &Options,
    there: &mut Option<Ground>,
    directory: &Path,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<(Vec<Finding>, Option<Played>)> {
    ensure!(options.events > 0, "nothing is repeated no times");
    let mut all = Vec::new();
    let mut last = None;
    for number in 1..=options.events {
        let played = declared.play(there, directory, interrupt, progress)?;
        let recovery = find(&played.findings, figure::RECOVERY).and_then(|found| found.measured);
        let shown = recovery.map_or("not measured".to_owned(), |ms| format!("{ms:.0} ms"));
        progress.note(&format!("{number} of {}: {shown}", options.events));
        all.push(played.findings.clone());
        // The one that missed a bar is the one to look at.
        let missed = !played.findings.iter().all(Finding::holds);
        if missed || last.is_none() {
            last = Some(played);
        }
    }
    Ok((judge(&all), last))
}

fn find<'a>(findings: &'a [Finding], what: &str) -> Option<&'a Finding> {
    findings.iter().find(|found| found.what == what)
}

/// The 99th percentile, for which there have to be 100; of fewer, the largest.
pub(super) fn percentile_99(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let from_the_end = values.len() / 100;
    values.iter().rev().nth(from_the_end).copied()
}

/// All runs together. Runs that were not judged by time are left out of what is; one that could not be
/// measured is worse than any that could.
fn judge(runs: &[Vec<Finding>]) -> Vec<Finding> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    let mut findings: Vec<Finding> = first.iter().map(|found| worst(found, runs)).collect();
    let judged = runs
        .iter()
        .filter(|run| run.iter().all(|found| found.judged));
    let part = judged.count() as f64 / runs.len() as f64;
    findings.push(Finding {
        what: "runs that were judged by time".to_owned(),
        measured: Some(part),
        bar: (LEAST_JUDGED, 1.0),
        unit: "of 1",
        judged: true,
    });
    findings
}

fn worst(kind: &Finding, runs: &[Vec<Finding>]) -> Finding {
    let same = runs.iter().filter_map(|run| find(run, &kind.what));
    let same: Vec<&Finding> = same.filter(|found| found.judged).collect();
    let measured: Option<Vec<f64>> = same.iter().map(|found| found.measured).collect();
    let (least, most) = kind.bar;
    let worst = |values: Vec<f64>| {
        if kind.what == figure::RECOVERY {
            return percentile_99(values);
        }
        // How far beyond its bar: below the least, or above the most.
        let beyond = |value: &f64| (least - value).max(value - most);
        values
            .into_iter()
            .max_by(|a, b| beyond(a).total_cmp(&beyond(b)))
    };
    Finding {
        measured: measured.and_then(worst),
        judged: !same.is_empty(),
        ..kind.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(what: &str, measured: Option<f64>, bar: (f64, f64), judged: bool) -> Finding {
        Finding {
            what: what.to_owned(),
            measured,
            bar,
            unit: "ms",
            judged,
        }
    }

    fn run(recovery: Option<f64>, used: f64, judged: bool) -> Vec<Finding> {
        vec![
            finding(figure::RECOVERY, recovery, (0.0, 2_500.0), judged),
            finding(
                figure::UTILISATION,
                Some(used),
                (0.97, f64::INFINITY),
                judged,
            ),
        ]
    }

    fn failed(runs: &[Vec<Finding>]) -> Vec<String> {
        let missed = judge(runs).into_iter().filter(|found| !found.holds());
        missed.map(|found| found.what).collect()
    }

    #[test]
    fn a_percentile_needs_its_events() {
        let values = |count: usize| (1..=count).map(|value| value as f64).collect();
        assert_eq!(percentile_99(Vec::new()), None);
        assert_eq!(percentile_99(values(20)), Some(20.0));
        assert_eq!(percentile_99(values(100)), Some(99.0));
    }

    #[test]
    fn one_late_recovery_of_a_hundred_is_allowed_and_two_are_not() {
        let mut runs = vec![run(Some(900.0), 1.0, true); 99];
        runs.push(run(Some(9_000.0), 1.0, true));
        assert_eq!(failed(&runs), Vec::<String>::new());
        runs[0] = run(Some(9_000.0), 1.0, true);
        assert_eq!(failed(&runs), [figure::RECOVERY]);
        runs[0] = run(None, 1.0, true);
        assert_eq!(
            failed(&runs),
            [figure::RECOVERY],
            "never is later than late"
        );
        runs[0] = run(Some(900.0), 0.5, true);
        assert_eq!(failed(&runs), [figure::UTILISATION], "the worst of all");
    }

    #[test]
    fn a_busy_machine_shows_nothing_and_says_so() {
        let calm = run(Some(900.0), 1.0, true);
        let busy = run(Some(9_000.0), 0.5, false);
        assert_eq!(failed(&[calm.clone(), busy.clone()]), Vec::<String>::new());
        let told = failed(&[calm, busy.clone(), busy]);
        assert_eq!(told, ["runs that were judged by time"]);
    }
}
