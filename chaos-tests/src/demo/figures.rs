//! The demonstration's figures, their bars, and how programs read them.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{RATE, summary};
use crate::{
    fleet::Timing,
    series::Bin,
    stage::{Judgement, LEAST_PACE, PhaseJudgement},
};

/// Most seconds of budget that may be admitted above it.
pub(super) const OVER_ADMISSION: f64 = 0.005;
/// Least utilisation, in every split.
pub(super) const UTILISATION: f64 = 0.97;
/// Most ticks to follow the traffic, half of the times.
pub(super) const MEDIAN_TICKS: f64 = 3.0;
/// Most ticks to follow the traffic, ever.
pub(super) const WORST_TICKS: f64 = 5.0;
/// With fewer events than this, the largest stands for the 99th percentile.
const P99_EVENTS: usize = 100;

/// What a run of the demonstration showed.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What the receiver saw.
    pub judgement: Judgement,
    /// What the daemons were configured with.
    pub timing: Timing,
    /// Where the plot is.
    pub plot: PathBuf,
    /// From the first command to the last, build excluded.
    pub wall_seconds: f64,
}

/// One figure and what it has to be.
pub(super) struct Check {
    pub(super) what: &'static str,
    pub(super) measured: String,
    pub(super) bar: String,
    pub(super) verdict: Verdict,
}

/// What comes of comparing a figure with its bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is met.
    Met,
    /// It is not.
    Missed,
    /// It is not, but the machine held everybody up: see [`crate::stage::LEAST_PACE`].
    NotJudged,
}

impl Figures {
    /// Whether every figure meets its bar.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks()
            .iter()
            .all(|check| check.verdict != Verdict::Missed)
    }

    /// The summary for people.
    #[must_use]
    pub fn summary(&self) -> String {
        summary::write(self)
    }

    pub(super) fn checks(&self) -> Vec<Check> {
        let judged = &self.judgement;
        let worst_split = self.worst_utilisation();
        let bound = self.timing.recovery().as_millis();
        let recovery = judged.recovery_ms.flatten();
        let promised = |met| if met { Verdict::Met } else { Verdict::Missed };
        let timed = |met| match (met, self.kept_pace()) {
            (true, _) => Verdict::Met,
            (false, true) => Verdict::Missed,
            (false, false) => Verdict::NotJudged,
        };
        vec![
            Check {
                what: "never above budget: largest excess of any window",
                measured: format!("{:.4} s of budget", judged.over_admission),
                bar: format!("<= {OVER_ADMISSION} s"),
                verdict: promised(judged.over_admission <= OVER_ADMISSION),
            },
            Check {
                what: "nothing wasted: worst utilisation of any split",
                measured: percent(worst_split),
                bar: format!(">= {:.0} %", UTILISATION * 100.0),
                verdict: timed(worst_split.is_some_and(|part| part >= UTILISATION)),
            },
            Check {
                what: "follows the traffic: median of all moves",
                measured: ticks(self.median_ticks()),
                bar: format!("<= {MEDIAN_TICKS} ticks"),
                verdict: timed(
                    self.median_ticks()
                        .is_some_and(|ticks| ticks <= MEDIAN_TICKS),
                ),
            },
            Check {
                what: "follows the traffic: slowest move",
                measured: ticks(self.worst_ticks()),
                bar: format!("<= {WORST_TICKS} ticks"),
                verdict: timed(self.worst_ticks().is_some_and(|ticks| ticks <= WORST_TICKS)),
            },
            Check {
                what: "outlives its leader: budget fully in use again",
                measured: recovery.map_or("never".to_owned(), |ms| format!("{ms} ms")),
                bar: format!("<= {bound} ms"),
                verdict: timed(recovery.is_some_and(|ms| u128::from(ms) <= bound)),
            },
        ]
    }

    /// Whether what depends on time can be judged.
    pub(super) fn kept_pace(&self) -> bool {
        self.judgement.pace >= LEAST_PACE
    }

    /// The lowest utilisation of any split; `None` if one could not be judged.
    fn worst_utilisation(&self) -> Option<f64> {
        let splits = self.judgement.phases.iter().map(|phase| phase.utilisation);
        splits
            .reduce(|worst, part| Some(worst?.min(part?)))
            .flatten()
    }

    /// The middle of all moves; one that never converged counts as slowest.
    fn median_ticks(&self) -> Option<f64> {
        let mut all = self.sorted_ticks();
        let middle = all.len() / 2;
        (middle < all.len())
            .then(|| all.swap_remove(middle))
            .flatten()
    }

    fn worst_ticks(&self) -> Option<f64> {
        self.sorted_ticks().last().copied().flatten()
    }

    fn p99_ticks(&self) -> Option<f64> {
        let all = self.sorted_ticks();
        let rank = if all.len() < P99_EVENTS {
            all.len()
        } else {
            all.len() * 99 / 100
        };
        all.get(rank.saturating_sub(1)).copied().flatten()
    }

    fn sorted_ticks(&self) -> Vec<Option<f64>> {
        let mut all: Vec<_> = self
            .judgement
            .shifts
            .iter()
            .map(|shift| shift.ticks)
            .collect();
        let key = |ticks: &Option<f64>| ticks.unwrap_or(f64::INFINITY);
        all.sort_by(|a, b| key(a).total_cmp(&key(b)));
        all
    }

    /// The figures for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let judged = &self.judgement;
        let begin = judged.phases.first().map_or(0, |phase| phase.bins.start);
        let second = |bin: Bin| bin.saturating_sub(begin) as f64 / 1_000.0;
        let phase = |phase: &PhaseJudgement| {
            json!({
                "split": phase.label,
                "from_s": second(phase.bins.start),
                "to_s": second(phase.bins.end),
                "utilisation": phase.utilisation,
                "optimum": phase.optimum,
                "admitted": phase.admitted,
                "jain": phase.jain,
            })
        };
        let moves = judged.shifts.iter().map(
            |shift| json!({ "to": shift.label, "at_s": second(shift.seen), "ticks": shift.ticks }),
        );
        let settle = judged.settle.iter().map(|settle| {
            let (from, to) = (second(settle.bins.start), second(settle.bins.end));
            json!({ "from_s": from, "to_s": to, "why": settle.why })
        });
        json!({
            "limit_rate": RATE,
            "offered": judged.offered,
            "admitted": judged.admitted,
            "over_admission": judged.over_admission,
            "utilisation": judged.utilisation,
            "utilisation_worst": self.worst_utilisation(),
            "convergence_ticks_p99": self.p99_ticks(),
            "convergence_ticks_median": self.median_ticks(),
            "convergence_ticks_worst": self.worst_ticks(),
            "shifts": judged.shifts.len(),
            "leader_changes": judged.leader_changes,
            "leader_recovery_ms": judged.recovery_ms.flatten(),
            "session_timeout_ms": self.timing.session.as_millis(),
            "lease_ms": self.timing.lease.as_millis(),
            "tick_ms": self.timing.tick.as_millis(),
            "phases": judged.phases.iter().map(phase).collect::<Vec<_>>(),
            "moves": moves.collect::<Vec<_>>(),
            "settle": settle.collect::<Vec<_>>(),
            "wall_seconds": self.wall_seconds,
            "plot": self.plot,
            "pace": judged.pace,
            "judged": self.kept_pace(),
            "passed": self.passed(),
        })
    }
}

/// A part as a percentage.
pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or("not judged".to_owned(), |part| {
        format!("{:.1} %", part * 100.0)
    })
}

/// A time in ticks.
pub(super) fn ticks(ticks: Option<f64>) -> String {
    ticks.map_or("never".to_owned(), |ticks| format!("{ticks:.1} ticks"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::ShiftJudgement;

    fn figures(change: impl FnOnce(&mut Judgement)) -> Figures {
        let phase = |label: &str| PhaseJudgement {
            label: label.to_owned(),
            bins: 1_000..2_000,
            utilisation: Some(0.99),
            optimum: vec![RATE],
            admitted: vec![RATE],
            jain: 1.0,
        };
        let shift = |ticks| ShiftJudgement {
            label: String::new(),
            seen: 1_500,
            ticks: Some(ticks),
        };
        let mut judgement = Judgement {
            over_admission: 0.001,
            calm_ms: 0,
            utilisation: Some(0.99),
            offered: 3.0 * RATE,
            admitted: RATE,
            phases: vec![phase("a"), phase("b")],
            shifts: vec![shift(1.0), shift(2.0), shift(4.0)],
            settle: Vec::new(),
            recovery_ms: Some(Some(900)),
            leader_changes: 1,
            pace: 1.0,
        };
        change(&mut judgement);
        Figures {
            judgement,
            timing: Timing::default(),
            plot: PathBuf::new(),
            wall_seconds: 40.0,
        }
    }

    #[test]
    fn good_figures_pass_and_are_on_one_line() {
        let figures = figures(|_| ());
        assert!(figures.passed());
        let text = figures.json().to_string();
        assert_eq!(text.lines().count(), 1);
        let json = figures.json();
        for key in [
            "limit_rate",
            "offered",
            "admitted",
            "over_admission",
            "utilisation",
            "convergence_ticks_p99",
            "shifts",
            "leader_changes",
        ] {
            assert!(json[key].is_number(), "{key}: {}", json[key]);
        }
        assert_eq!(json["convergence_ticks_p99"], 4.0);
        assert_eq!(json["convergence_ticks_median"], 2.0);
    }

    #[test]
    fn a_machine_that_held_everybody_up_is_no_excuse_for_a_broken_promise() {
        let late = figures(|judged| {
            judged.pace = 0.9;
            judged.shifts[0].ticks = None;
            judged.recovery_ms = Some(None);
        });
        assert!(late.passed() && !late.kept_pace());
        let broken = figures(|judged| {
            judged.pace = 0.9;
            judged.over_admission = 0.006;
        });
        assert!(!broken.passed());
    }

    #[test]
    fn each_figure_can_fail() {
        let changes: [fn(&mut Judgement); 8] = [
            |judged| judged.over_admission = 0.006,
            |judged| judged.phases[1].utilisation = Some(0.96),
            |judged| judged.phases[1].utilisation = None,
            |judged| judged.shifts[1].ticks = Some(3.5),
            |judged| judged.shifts[0].ticks = Some(5.1),
            |judged| judged.shifts[0].ticks = None,
            |judged| judged.recovery_ms = Some(Some(3_600)),
            |judged| judged.recovery_ms = Some(None),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(!figures(change).passed(), "change {number} went unnoticed");
        }
    }
}
