//! From a recording to figures. Pure.

use std::ops::Range;

use super::{
    fault::Fault,
    recording::{Happening, LimitUnderTest, Recording},
};
use crate::{
    fleet::Timing,
    oracle::{
        Budget, Shift, Utilised, convergence_ticks, jain_index, max_min, over_admission, possible,
        possible_without_burst, recovery_bins, shift_seen, utilisation,
    },
    series::{BINS_PER_SECOND, Bin, Series},
};

/// Ticks after a move of the traffic that its utilisation is not judged by.
const SETTLE_TICKS: u64 = 5;
/// Part of the optimum at which the budget counts as fully in use.
pub const FULLY_IN_USE: f64 = 0.97;
/// Ticks of budget, as a part of a phase's offered rate, below which a host counts as idle.
const IDLE_RATE: f64 = 1.0;

/// The figures of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Seconds of budget, over the whole run.
    pub over_admission: f64,
    /// Outside the settle intervals.
    pub utilisation: Option<f64>,
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

/// An interval in which utilisation is not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// From when to when.
    pub bins: Range<Bin>,
    /// Why.
    pub why: String,
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
        let settle = self.settle(&phases);
        let whole = phases.first().map_or(0, |phase| phase.bins.start)..self.recording.end;
        let mut sum = Utilised::default();
        let mut judged = Vec::new();
        for phase in &phases {
            let (utilised, judgement) = self.phase(phase, &settle, &offered, &admitted);
            sum += utilised;
            judged.push(judgement);
        }
        let recovery_ms = self.recording.kill().map(|(killed, _)| {
            let phase = judged.iter().find(|phase| phase.bins.contains(&killed))?;
            let rate = phase.optimum.iter().sum();
            let possible = possible_without_burst(&offered, phase.bins.clone(), rate);
            let end = phase.bins.end;
            recovery_bins(&admitted, &possible, FULLY_IN_USE, self.tick, killed, end)
        });
        Judgement {
            over_admission: over_admission(&admitted, &self.limit.budget),
            utilisation: sum.ratio(),
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

    fn phases(&self) -> Vec<Phase<'_>> {
        let shaped = self
            .recording
            .events
            .iter()
            .filter_map(|event| match &event.what {
                Happening::Shaped { label, rates } => Some((event.bin, label, rates)),
                _ => None,
            });
        let starts: Vec<_> = shaped.collect();
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

    fn settle(&self, phases: &[Phase<'_>]) -> Vec<Settle> {
        let moved = phases.iter().map(|phase| Settle {
            bins: phase.bins.start..phase.bins.start + SETTLE_TICKS * self.tick,
            why: "the traffic moved".to_owned(),
        });
        let episodes = self.recording.episodes();
        let disturbed = episodes.iter().filter_map(|episode| {
            let after = episode.fault.unsettles(self.timing)?;
            // Who is needed to replace a leader is waited for.
            let servers = episodes.iter().filter(|other| {
                other.fault.is_of_servers()
                    && other.bins.start < episode.bins.end
                    && episode.bins.start < other.bins.end
            });
            let ends = servers.map(|other| other.bins.end);
            let end = ends.fold(episode.bins.end, u64::max);
            Some(Settle {
                bins: episode.bins.start..end + bins(after),
                why: episode.fault.label(),
            })
        });
        let disturbed: Vec<Settle> = disturbed.collect();
        // A daemon that starts abstains as a voter for W. One does not matter; one while others are
        // away, or have just started too, may leave no majority.
        let abstains = 2 * bins(self.timing.wait_out());
        let restarted = episodes.iter().filter(|episode| {
            matches!(episode.fault, Fault::Upgraded(_))
                && disturbed
                    .iter()
                    .any(|settle| settle.bins.contains(&episode.bins.start))
        });
        let restarted = restarted.map(|episode| Settle {
            bins: episode.bins.start..episode.bins.end + abstains,
            why: format!("{}, while others were away", episode.fault.label()),
        });
        let restarted: Vec<Settle> = restarted.collect();
        moved.chain(disturbed).chain(restarted).collect()
    }

    fn phase(
        &self,
        phase: &Phase<'_>,
        settle: &[Settle],
        offered: &Series,
        admitted: &Series,
    ) -> (Utilised, PhaseJudgement) {
        let hosts = &self.recording.hosts;
        let idle = phase.rates.iter().filter(|&&rate| rate < IDLE_RATE).count();
        let usable = self.limit.budget.rate - self.limit.floor * idle as f64;
        let settle: Vec<_> = settle.iter().map(|settle| settle.bins.clone()).collect();
        let utilised = utilisation(
            offered,
            admitted,
            usable,
            phase.bins.clone(),
            self.tick,
            &settle,
        );
        // The rates that the receiver saw, once the move was over.
        let moved = phase.bins.start + self.tick..phase.bins.end;
        let demands: Vec<f64> = hosts
            .iter()
            .map(|host| host.offered.rate(moved.clone()))
            .collect();
        let optimum = max_min(usable, &demands, &vec![1.0; hosts.len()]);
        let calm = outside(&phase.bins, &settle);
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
