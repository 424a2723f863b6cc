//! What is left when all is over: memory and descriptors of daemons, namespaces, files, pins.

use anyhow::Result;

use super::{Finding, Report};
use crate::fleet::{Footprint, Held, Process};

/// With fewer runs than this, nothing is said about growth.
const LEAST_RUNS: usize = 6;
/// Descriptors that come and go with connections.
const SPARE_DESCRIPTORS: f64 = 24.0;
/// Memory that allocators keep.
const SPARE_GROWTH: f64 = 1.5;
const MORE: f64 = f64::INFINITY;

/// How many fleets of this process are still on the machine, all that they consist of included.
///
/// # Errors
///
/// If that cannot be told.
pub fn left_behind() -> Result<usize> {
    let own = Process::current();
    let all = Footprint::all()?;
    Ok(all
        .iter()
        .filter(|footprint| footprint.owner == Some(own))
        .count())
}

/// Judges what the daemons of the last third of all runs held by those of the first. Pure.
#[must_use]
pub fn leaks(reports: &[Report], left_behind: usize, seed: u64) -> Report {
    let played = reports.iter().filter_map(|report| report.played.as_ref());
    let held: Vec<&[Held]> = played.map(|played| played.held.as_slice()).collect();
    let growth = |of: fn(&Held) -> f64| {
        let third = held.len() / 3;
        let most = |runs: &[&[Held]]| {
            let all = runs.iter().flat_map(|held| held.iter());
            all.map(of).fold(0.0, f64::max)
        };
        let (first, last) = (most(&held[..third]), most(&held[held.len() - third..]));
        (held.len() >= LEAST_RUNS && first > 0.0).then_some((first, last))
    };
    let descriptors = growth(|held| held.descriptors as f64);
    let memory = growth(|held| held.resident_kib as f64);
    let finding = |what: &str, measured: Option<f64>, most, unit| Finding {
        what: what.to_owned(),
        measured,
        bar: (-MORE, most),
        unit,
        judged: measured.is_some(),
    };
    let findings = vec![
        finding(
            "fleets left behind",
            Some(left_behind as f64),
            0.0,
            "fleets",
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
    ];
    let holds = findings.iter().all(Finding::holds);
    Report {
        name: "leaks",
        story: "What is left of all runs together.",
        faults: Vec::new(),
        seed,
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

    fn run(descriptors: usize, resident_kib: u64) -> Report {
        let recording = Recording::default();
        let limit = crate::demo::limit();
        let judgement = stage::judge(&recording, &limit, &crate::fleet::Timing::default());
        let held = vec![Held {
            resident_kib,
            descriptors,
        }];
        let mut report = leaks(&[], 0, 1);
        report.played = Some(Played {
            recording,
            judgement,
            findings: Vec::new(),
            held,
        });
        report
    }

    #[test]
    fn growth_is_found_and_so_is_what_is_left_behind() {
        let verdict = |grows: fn(usize) -> (usize, u64), left| {
            let runs: Vec<Report> = (0..9)
                .map(|number| {
                    let (descriptors, memory) = grows(number);
                    run(descriptors, memory)
                })
                .collect();
            leaks(&runs, left, 1).verdict
        };
        assert_eq!(verdict(|_| (60, 30_000), 0), "pass");
        assert_eq!(verdict(|number| (60 + 5 * number, 30_000), 0), "fail");
        assert_eq!(
            verdict(|number| (60, 30_000 + 5_000 * number as u64), 0),
            "fail"
        );
        assert_eq!(verdict(|_| (60, 30_000), 1), "fail");
        assert_eq!(leaks(&[], 0, 1).verdict, "pass");
    }
}
