//! From a recording to figures. Pure.

use std::ops::Range;

use super::{
    fault::Fault,
    recording::{Happening, LimitUnderTest, Recording},
    settle::{self, Settle},
};
use crate::{
    fleet::Timing,
    oracle::{
        Budget, Shift, Utilised, convergence_ticks, jain_index, max_min, over_admission, possible,
        possible_without_burst, recovery_bins, shift_seen, utilisation,
    },
    series::{BINS_PER_SECOND, Bin, Series},
};

/// A run that is calm for less than this says nothing about utilisation.
const LEAST_CALM: u64 = 1_000;
/// Part of the optimum at which the budget counts as fully in use.
pub const FULLY_IN_USE: f64 = 0.97;
/// Ticks of budget, as a part of a phase's offered rate, below which a host counts as idle.
const IDLE_RATE: f64 = 1.0;

/// The figures of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Seconds of budget, over the whole run.
    pub over_admission: f64,
    /// Outside the settle intervals; `None` if less than a second is.
    pub utilisation: Option<f64>,
    /// How much of the run is outside of them.
    pub calm_ms: u64,
    /// Mean packets per second in front of the limiters.
    pub offered: f64,
    /// Mean packets per second behind them.
    pub admitted: f64,
    /// Each stretch of one shape.
    pub phases: Vec<PhaseJudgement>,
    /// Each move of the traffic.
    pub shifts: Vec<ShiftJudgement>,
    /// What was left out of the utilisation, and why.
    pub settle: Vec<Settle>,
    /// From the leader's death until the budget was fully in use again. The outer option is
    /// whether a leader was killed, the inner one whether that came.
    pub recovery_ms: Option<Option<u64>>,
    /// The first election left out.
    pub leader_changes: usize,
    /// As [`Recording::pace`].
    pub pace: f64,
}

/// The figures of a stretch of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseJudgement {
    /// What people call it.
    pub label: String,
    /// From when to when.
    pub bins: Range<Bin>,
    /// Admitted over possible, outside the settle intervals.
    pub utilisation: Option<f64>,
    /// Packets per second of each host in the weighted max-min optimum.
    pub optimum: Vec<f64>,
    /// Packets per second that each host admitted, outside the settle intervals.
    pub admitted: Vec<f64>,
    /// Jain's index of what the hosts admitted, measured against the optimum.
    pub jain: f64,
}

/// The figures of one move of the traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct ShiftJudgement {
    /// What it moved to.
    pub label: String,
    /// When the receiver saw it.
    pub seen: Bin,
    /// Until all shares were near the optimum, and stayed; `None` if that never came.
    pub ticks: Option<f64>,
}

/// Judges a run.
#[must_use]
pub fn judge(recording: &Recording, limit: &LimitUnderTest, timing: &Timing) -> Judgement {
    Judge {
        recording,
        limit,
        timing,
        tick: bins(timing.tick),
    }
    .judge()
}

fn bins(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("timings are short")
}

struct Judge<'a> {
    recording: &'a Recording,
    limit: &'a LimitUnderTest,
    timing: &'a Timing,
    tick: u64,
}

/// A stretch of one shape, as it was asked for.
struct Phase<'a> {
    label: &'a str,
    rates: &'a [f64],
    bins: Range<Bin>,
}

impl Judge<'_> {
    fn judge(&self) -> Judgement {
        let (offered, admitted) = (self.recording.offered(), self.recording.admitted());
        let phases = self.phases();
        let starts: Vec<Bin> = phases.iter().map(|phase| phase.bins.start).collect();
        let settle = settle::intervals(self.recording, self.timing, &starts);
        let intervals: Vec<Range<Bin>> = settle.iter().map(|settle| settle.bins.clone()).collect();
        let whole = phases.first().map_or(0, |phase| phase.bins.start)..self.recording.end;
        let mut sum = Utilised::default();
        let mut judged = Vec::new();
        for phase in &phases {
            let (utilised, judgement) = self.phase(phase, &intervals, &offered, &admitted);
            sum += utilised;
            judged.push(judgement);
        }
        let parts = outside(&whole, &intervals);
        let calm = parts.iter().map(|part| part.end - part.start).sum();
        let recovery_ms = self.recording.kill().map(|(killed, _)| {
            let phase = judged.iter().find(|phase| phase.bins.contains(&killed))?;
            let rate = phase.optimum.iter().sum();
            let possible = possible_without_burst(&offered, phase.bins.clone(), rate);
            let end = phase.bins.end;
            recovery_bins(&admitted, &possible, FULLY_IN_USE, self.tick, killed, end)
        });
        Judgement {
            over_admission: over_admission(&admitted, &self.limit.budget),
            utilisation: sum.ratio().filter(|_| calm >= LEAST_CALM),
            calm_ms: calm,
            offered: offered.rate(whole.clone()),
            admitted: admitted.rate(whole),
            shifts: self.shifts(&phases, &judged, &offered),
            phases: judged,
            settle,
            recovery_ms,
            pace: self.recording.pace(),
            leader_changes: self.recording.leader_changes(),
        }
    }

    /// Stretches of one shape under one rate.
    fn phases(&self) -> Vec<Phase<'_>> {
        let mut starts: Vec<(Bin, &str, &[f64])> = Vec::new();
        for event in &self.recording.events {
            match &event.what {
                Happening::Shaped { label, rates } => starts.push((event.bin, label, rates)),
                Happening::Began {
                    fault: Fault::Rate(_),
                    ..
                } => starts.extend(
                    starts
                        .last()
                        .map(|&(_, label, rates)| (event.bin, label, rates)),
                ),
                _ => {}
            }
        }
        let ends = starts
            .iter()
            .skip(1)
            .map(|(bin, ..)| *bin)
            .chain([self.recording.end]);
        let pairs = starts.iter().zip(ends);
        pairs
            .map(|(&(start, label, rates), end)| Phase {
                label,
                rates,
                bins: start..end,
            })
            .collect()
    }

    fn phase(
        &self,
        phase: &Phase<'_>,
        settle: &[Range<Bin>],
        offered: &Series,
        admitted: &Series,
    ) -> (Utilised, PhaseJudgement) {
        let hosts = &self.recording.hosts;
        let idle = phase.rates.iter().filter(|&&rate| rate < IDLE_RATE).count();
        // Floors are parts of the rate.
        let initial = self.limit.budget.rate;
        let rate = self.recording.rate_at(phase.bins.start, initial);
        let usable = rate - self.limit.floor * rate / initial * idle as f64;
        let utilised = utilisation(
            offered,
            admitted,
            usable,
            phase.bins.clone(),
            self.tick,
            settle,
        );
        // The rates that the receiver saw, once the move was over.
        let moved = phase.bins.start + self.tick..phase.bins.end;
        let demands: Vec<f64> = hosts
            .iter()
            .map(|host| host.offered.rate(moved.clone()))
            .collect();
        let optimum = max_min(usable, &demands, &vec![1.0; hosts.len()]);
        let calm = outside(&phase.bins, settle);
        let rates = hosts.iter().map(|host| mean_rate(&host.admitted, &calm));
        let rates: Vec<f64> = rates.collect();
        let judgement = PhaseJudgement {
            label: phase.label.to_owned(),
            bins: phase.bins.clone(),
            utilisation: utilised.ratio(),
            jain: jain_index(&rates, &due(&optimum)),
            optimum,
            admitted: rates,
        };
        (utilised, judgement)
    }

    /// What the whole fleet could have admitted in a phase.
    fn possible(&self, offered: &Series, phase: &PhaseJudgement) -> Series {
        let rate = phase.optimum.iter().sum();
        let budget = Budget {
            rate,
            ..self.limit.budget
        };
        possible(offered, phase.bins.clone(), &budget)
    }

    fn shifts(
        &self,
        phases: &[Phase<'_>],
        judged: &[PhaseJudgement],
        total: &Series,
    ) -> Vec<ShiftJudgement> {
        let hosts = &self.recording.hosts;
        let offered: Vec<Series> = hosts.iter().map(|host| host.offered.clone()).collect();
        let admitted: Vec<Series> = hosts.iter().map(|host| host.admitted.clone()).collect();
        let moves = phases.windows(2).zip(judged.iter().skip(1));
        moves
            .filter(|(pair, _)| pair[0].rates != pair[1].rates)
            .map(|(pair, judged)| {
                let shift = Shift {
                    asked: pair[1].bins.start,
                    before: pair[0].rates.to_vec(),
                    after: pair[1].rates.to_vec(),
                };
                // What a killed leader does to the shares is judged as recovery.
                let killed = self.recording.kill().map(|(bin, _)| bin);
                let end = killed
                    .filter(|bin| judged.bins.contains(bin))
                    .unwrap_or(judged.bins.end);
                let seen = shift_seen(&shift, &offered, end);
                let ticks = seen.and_then(|seen| {
                    let possible = self.possible(total, judged);
                    let rate = self.limit.budget.rate;
                    let optimum = &judged.optimum;
                    convergence_ticks(&admitted, &possible, optimum, rate, self.tick, seen, end)
                });
                let seen = seen.unwrap_or(shift.asked);
                ShiftJudgement {
                    label: judged.label.clone(),
                    seen,
                    ticks,
                }
            })
            .collect()
    }
}

/// Hosts that are due next to nothing say nothing about fairness.
fn due(optimum: &[f64]) -> Vec<f64> {
    optimum
        .iter()
        .map(|&rate| if rate < IDLE_RATE { 0.0 } else { rate })
        .collect()
}

/// The parts of a range that no interval touches.
fn outside(bins: &Range<Bin>, intervals: &[Range<Bin>]) -> Vec<Range<Bin>> {
    let mut parts = vec![bins.clone()];
    for interval in intervals {
        let cut = parts.into_iter().flat_map(|part| {
            [
                part.start..part.end.min(interval.start),
                part.start.max(interval.end)..part.end,
            ]
        });
        parts = cut.filter(|part| part.start < part.end).collect();
    }
    parts
}

fn mean_rate(series: &Series, parts: &[Range<Bin>]) -> f64 {
    let length: u64 = parts.iter().map(|part| part.end - part.start).sum();
    let packets: u64 = parts.iter().map(|part| series.sum(part.clone())).sum();
    packets as f64 * BINS_PER_SECOND / length.max(1) as f64
}
