//! One row: a fleet of one size, for some ticks.

use std::{fmt, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{fleet::Fleet, processor::resident_mib};

/// Until everybody has a share.
const WARM_UP: usize = 15;
/// How often the hot nodes change while ticks are measured.
const SHIFT_EVERY: usize = 20;
/// Shares are where they belong if none is further off, in parts of the rate.
const CLOSE: f64 = 0.05;
/// Limits that are looked at for that.
const WATCHED: usize = 5;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) limits: usize,
    pub(crate) changing: u32,
    pub(crate) ticks: usize,
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `grpc` is real streams on loopback in real time, `simulated` the messages alone.
    pub(crate) transport: String,
    pub(crate) nodes: usize,
    pub(crate) limits: usize,
    /// Percent of the pairs of node and limit.
    pub(crate) changing: u32,
    pub(crate) tick_ms_p50: f64,
    /// CPU time of one core. Simulated: encoded reports in to encoded proposals out. Over gRPC:
    /// decoded reports in to proposals handed to streams; the rest is in `leader_cores`.
    pub(crate) tick_ms_p99: f64,
    /// The rest of a tick: acknowledgements in, commits and further proposals out.
    pub(crate) answers_ms_p99: f64,
    /// Of a node that is no voter, messages both ways, in bytes a second; `None` without such.
    pub(crate) bytes_per_node_s: Option<f64>,
    /// Of a voter other than the leader.
    pub(crate) bytes_per_voter_s: Option<f64>,
    /// The worst of so few shifts; `None` over gRPC.
    pub(crate) convergence_ticks_p99: Option<usize>,
    pub(crate) shifts: usize,
    /// Of the whole process, all nodes included.
    pub(crate) resident_mib: f64,
    /// Over gRPC: ticks of which all that was proposed had been committed to at all nodes before the
    /// next was due, in parts of all; a tick that the leader left out is none of them.
    pub(crate) committed_share: Option<f64>,
    /// Over gRPC: from a proposal to when the last node has heard that it is committed.
    pub(crate) commit_ms_p50: Option<f64>,
    pub(crate) commit_ms_p99: Option<f64>,
    /// Over gRPC: CPU seconds a second of the leader's thread, with all its streams.
    pub(crate) leader_cores: Option<f64>,
    /// Over gRPC: CPU seconds a second of the process, all nodes included.
    pub(crate) processor_cores: Option<f64>,
    /// Over gRPC: seconds a second for which threads of the process were ready and had no processor: it
    /// was at other work. Times are no property of what is measured unless this is little.
    pub(crate) waited_cores: Option<f64>,
    /// Over gRPC: why two cores do not carry this; `None` if they do.
    pub(crate) shortfall: Option<String>,
}

impl Row {
    pub(crate) const HEADING: &str = "over      nodes limits changing  tick p50   p99 ms  answers p99  B/s a node  B/s a voter  ticks to converge   MiB  committed  commit p99 ms  cores: leader  all  waiting";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |number: Option<f64>, digits: usize| {
            number.map_or("-".into(), |number| format!("{number:.digits$}"))
        };
        write!(
            f,
            "{:<9} {:>5} {:>6} {:>7}%  {:>8.2} {:>8.2}  {:>11.2}  {:>10}  {:>11}  {:>17}  {:>4.0}  {:>8}%  {:>13}  {:>13}  {:>3}  {:>7}",
            self.transport,
            self.nodes,
            self.limits,
            self.changing,
            self.tick_ms_p50,
            self.tick_ms_p99,
            self.answers_ms_p99,
            shown(self.bytes_per_node_s, 0),
            shown(self.bytes_per_voter_s, 0),
            self.convergence_ticks_p99
                .map_or("-".into(), |ticks| ticks.to_string()),
            self.resident_mib,
            shown(self.committed_share.map(|share| 100.0 * share), 1),
            shown(self.commit_ms_p99, 1),
            shown(self.leader_cores, 2),
            shown(self.processor_cores, 2),
            shown(self.waited_cores, 2),
        )
    }
}

pub(crate) fn measure(plan: &Plan) -> Result<Row> {
    let mut fleet = Fleet::new(plan.nodes, plan.limits, plan.changing);
    for _ in 0..WARM_UP {
        fleet.tick()?;
    }
    let (voters_before, others_before) = fleet.bytes();
    let (mut ticks, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..plan.ticks {
        let taken = fleet.tick()?;
        ticks.push(taken.tick);
        answers.push(taken.answers);
    }
    let (voters, others) = fleet.bytes();
    let seconds = plan.ticks as f64 / 10.0;
    let rate = |before: &[u64], after: &[u64]| {
        let bytes = after.iter().sum::<u64>() - before.iter().sum::<u64>();
        (!after.is_empty()).then(|| bytes as f64 / after.len() as f64 / seconds)
    };
    let converged = converge(&mut fleet, plan)?;
    Ok(Row {
        transport: "simulated".to_owned(),
        nodes: plan.nodes,
        limits: plan.limits,
        changing: plan.changing,
        tick_ms_p50: percentile(&mut ticks, 50),
        tick_ms_p99: percentile(&mut ticks, 99),
        answers_ms_p99: percentile(&mut answers, 99),
        bytes_per_node_s: rate(&others_before, &others),
        bytes_per_voter_s: rate(&voters_before, &voters),
        convergence_ticks_p99: converged.iter().copied().max(),
        shifts: converged.len(),
        resident_mib: round(resident_mib()),
        committed_share: None,
        commit_ms_p50: None,
        commit_ms_p99: None,
        leader_cores: None,
        processor_cores: None,
        waited_cores: None,
        shortfall: None,
    })
}

/// Ticks from each shift of demand until shares have followed. A fleet of one has no shares.
fn converge(fleet: &mut Fleet, plan: &Plan) -> Result<Vec<usize>> {
    let watched = plan.limits.min(WATCHED);
    let mut converged = Vec::new();
    if plan.nodes < 2 {
        return Ok(converged);
    }
    for _ in 0..(plan.ticks / SHIFT_EVERY).clamp(1, 5) {
        fleet.load.shift();
        let mut ticks = 0;
        loop {
            fleet.tick()?;
            ticks += 1;
            if ticks >= SHIFT_EVERY || (0..watched).all(|limit| fleet.distance(limit) <= CLOSE) {
                break;
            }
        }
        converged.push(ticks);
    }
    Ok(converged)
}

/// In milliseconds; of fewer than a hundred the p99 is the largest, and of none nothing.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    if times.is_empty() {
        return f64::NAN;
    }
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).clamp(1, times.len());
    round(times[rank - 1].as_secs_f64() * 1e3)
}

/// To three decimals.
pub(crate) fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_is_measured() {
        let row = measure(&Plan {
            nodes: 9,
            limits: 3,
            changing: 0,
            ticks: 20,
        })
        .unwrap();
        // What a row says after a silence is a mean over the silence: the second row tells the rate.
        assert_eq!(row.convergence_ticks_p99, Some(2));
        let (node, voter) = (
            row.bytes_per_node_s.unwrap(),
            row.bytes_per_voter_s.unwrap(),
        );
        assert!(100.0 < node && node < voter, "{node} {voter}");
        assert!(row.tick_ms_p99 > 0.0 && row.tick_ms_p99 >= row.tick_ms_p50);
    }

    #[test]
    fn a_percentile_of_few_is_the_largest() {
        let mut times: Vec<_> = (1..=99).map(Duration::from_millis).collect();
        assert!((percentile(&mut times, 99) - 99.0).abs() < 1e-9);
        assert!((percentile(&mut times, 50) - 50.0).abs() < 1e-9);
    }
}
