//! What has to hold in a scenario, and whether it did. Pure: a recording in, findings out.

use std::{ops::Range, time::Duration};

use super::{Finding, OVER_ADMISSION, figure, ground};
use crate::{
    fleet::Timing,
    oracle::{
        convergence_ticks, max_min, over_admission, possible, possible_without_burst, recovery_bins,
    },
    series::{Bin, Series},
    stage::{
        self, Episode, FULLY_IN_USE, Happening, Judgement, LEAST_PACE, LimitUnderTest, Recording,
    },
};

/// A host on its floor may be this far from it: its last burst, and the edges of bins.
const FLOOR_TOLERANCE: f64 = 0.15;
/// A stretch shorter than this says nothing about a rate.
const LEAST_STRETCH: u64 = 300;
const MORE: f64 = f64::INFINITY;

/// A bar. That the budget is never exceeded is expected of every scenario, without being said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expect {
    /// Part of what could be admitted that was, outside the settle intervals.
    Utilisation(f64),
    /// After every fault of the script the budget is fully in use within this.
    Recovery(Edge, Duration),
    /// The hosts that fault number so much hit, or all if it hit none, are on their floors within
    /// this, until it ends.
    OnFloor(usize, Duration),
    /// After that fault all shares are what they should be within so many ticks.
    Back(usize, f64),
    /// The same, from when the first host reaches ZooKeeper again after it.
    BackOnceConnected(usize, f64),
    /// After every move of the traffic, the same.
    Convergence(f64),
    /// No gap of more than 300 ms between commits, at any host.
    NoMissedTick,
    /// No host that no fault hit falls to its floor.
    NobodyElseFalls,
    /// From the first fault on, no window of so many milliseconds admits less than this part of
    /// what it could.
    NeverUnder(f64, u64),
    /// Changes of leader: at least, at most.
    LeaderChanges(usize, usize),
    /// From one lease after fault number so much until the next one, this rate is the budget.
    BudgetAfter(usize, f64),
    /// TCP flows stay within their own limit.
    Flows,
    /// They use at least this part of it.
    FlowsUse(f64),
    /// Jain's index of the shares, outside the settle intervals.
    Fair(f64),
}

/// One end of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Its beginning.
    Begin,
    /// Its end.
    End,
}

/// Judges a recording by what was expected.
pub(super) fn judge(
    recording: &Recording,
    limit: &LimitUnderTest,
    timing: &Timing,
    expected: &[Expect],
) -> (Judgement, Vec<Finding>) {
    let judgement = stage::judge(recording, limit, timing);
    let examiner = Examiner {
        recording,
        limit,
        timing,
        episodes: recording.episodes(),
        offered: recording.offered(),
        admitted: recording.admitted(),
        judgement: &judgement,
    };
    let over = examiner.finding(
        figure::OVER_ADMISSION,
        Some(judgement.over_admission),
        (0.0, OVER_ADMISSION),
        "s of budget",
    );
    let mut findings = vec![Finding {
        judged: true,
        ..over
    }];
    for expect in expected {
        findings.push(examiner.examine(*expect));
    }
    (judgement, findings)
}

struct Examiner<'a> {
    recording: &'a Recording,
    limit: &'a LimitUnderTest,
    timing: &'a Timing,
    episodes: Vec<Episode>,
    offered: Series,
    admitted: Series,
    judgement: &'a Judgement,
}

impl Examiner<'_> {
    fn finding(
        &self,
        what: &str,
        measured: Option<f64>,
        bar: (f64, f64),
        unit: &'static str,
    ) -> Finding {
        Finding {
            what: what.to_owned(),
            measured,
            bar,
            unit,
            judged: self.recording.pace() >= LEAST_PACE,
        }
    }

    fn examine(&self, expect: Expect) -> Finding {
        match expect {
            Expect::Utilisation(least) => self.finding(
                figure::UTILISATION,
                self.judgement.utilisation,
                (least, MORE),
                "of 1",
            ),
            Expect::Recovery(edge, within) => self.finding(
                figure::RECOVERY,
                self.recovery(edge).map(|bins| bins as f64),
                (0.0, within.as_millis() as f64),
                "ms",
            ),
            Expect::OnFloor(episode, within) => self.on_floor(episode, within),
            Expect::Back(episode, ticks) => self.finding(
                "shares are back after the fault",
                self.episodes
                    .get(episode)
                    .and_then(|episode| self.settled(episode.bins.end)),
                (0.0, ticks),
                "ticks",
            ),
            Expect::BackOnceConnected(episode, ticks) => self.finding(
                "shares are back once ZooKeeper is",
                self.episodes
                    .get(episode)
                    .and_then(|episode| self.settled(self.connected(episode.bins.end)?)),
                (0.0, ticks),
                "ticks",
            ),
            Expect::Convergence(ticks) => {
                let shifts = &self.judgement.shifts;
                let worst = shifts.iter().map(|shift| shift.ticks);
                let worst = worst.collect::<Option<Vec<f64>>>();
                self.finding(
                    "shares follow the traffic",
                    worst.map(|ticks| ticks.into_iter().fold(0.0, f64::max)),
                    (0.0, ticks),
                    "ticks",
                )
            }
            Expect::NoMissedTick => {
                let missed = self.count(|_| true, |said| said.gaps);
                self.finding("missed ticks", Some(missed), (0.0, 0.0), "ticks")
            }
            Expect::NobodyElseFalls => {
                let is_hit = |host: usize| self.episodes.iter().any(|e| e.hosts.contains(&host));
                let falls = self.count(|host| !is_hit(host), |said| said.falls);
                let what = "other hosts that fell to their floors";
                self.finding(what, Some(falls), (0.0, 0.0), "falls")
            }
            Expect::NeverUnder(part, window) => self.finding(
                "the least of any window",
                self.lowest(window),
                (part, MORE),
                "of 1",
            ),
            Expect::LeaderChanges(least, most) => self.finding(
                "changes of leader",
                Some(self.judgement.leader_changes as f64),
                (least as f64, most as f64),
                "changes",
            ),
            Expect::BudgetAfter(episode, rate) => self.budget_after(episode, rate),
            Expect::FlowsUse(least) => {
                let begin = self.recording.events.first().map_or(0, |event| event.bin);
                let rate = self.flows().rate(begin..self.recording.end);
                let part = rate / ground::flow_budget().rate;
                self.finding("what they use of theirs", Some(part), (least, MORE), "of 1")
            }
            Expect::Flows => {
                let flows = self.flows();
                let any = flows.sum(flows.span()) > 0;
                let over = any.then(|| over_admission(&flows, &ground::flow_budget()));
                Finding {
                    judged: true,
                    ..self.finding(
                        "flows that back off, never above theirs",
                        over,
                        (0.0, OVER_ADMISSION),
                        "s of budget",
                    )
                }
            }
            Expect::Fair(least) => {
                let judged = self.judgement.phases.iter();
                let calm = judged.filter(|phase| phase.utilisation.is_some());
                self.finding(
                    "fairness (Jain)",
                    calm.map(|phase| phase.jain).reduce(f64::min),
                    (least, MORE),
                    "of 1",
                )
            }
        }
    }

    fn count(&self, hosts: impl Fn(usize) -> bool, what: fn(&stage::Said) -> u64) -> f64 {
        let begin = self.recording.events.first().map_or(0, |event| event.bin);
        let run = begin..self.recording.end;
        let hosts = (0..self.recording.hosts.len()).filter(|host| hosts(*host));
        hosts
            .map(|host| self.recording.grew(host, &run, what))
            .sum::<u64>() as f64
    }

    fn flows(&self) -> Series {
        let flows = self.recording.hosts.iter().map(|host| &host.flows);
        Series::total(flows.collect::<Vec<_>>())
    }

    /// When a host first said, from a moment on, that it reaches ZooKeeper.
    fn connected(&self, from: Bin) -> Option<Bin> {
        let said = self.recording.said.iter().flatten();
        let again = said.filter(|said| said.connected && said.bin >= from);
        again.map(|said| said.bin).min()
    }

    /// The longest of all faults; `None` if one never ended in full use.
    fn recovery(&self, edge: Edge) -> Option<u64> {
        let measured = self.episodes.iter().map(|episode| {
            let from = match edge {
                Edge::Begin => episode.bins.start,
                Edge::End => episode.bins.end,
            };
            let stretch = from..self.boundary(from, episode);
            let rate = self.usable(from);
            // What could be admitted is reckoned from a while before, so that its bucket is right.
            let reckoned = from.saturating_sub(LEAST_STRETCH)..stretch.end;
            let possible = possible_without_burst(&self.offered, reckoned, rate);
            let tick = bins(self.timing.tick);
            recovery_bins(
                &self.admitted,
                &possible,
                FULLY_IN_USE,
                tick,
                stretch.start,
                stretch.end,
            )
        });
        measured.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }

    /// The next time at which something else is done.
    fn boundary(&self, from: Bin, episode: &Episode) -> Bin {
        let shaped = self.recording.events.iter().filter_map(|event| {
            matches!(event.what, Happening::Shaped { .. }).then_some(event.bin)
        });
        let others = self.episodes.iter().filter(|other| *other != episode);
        let others = others.flat_map(|other| [other.bins.start, other.bins.end]);
        let next = shaped.chain(others).filter(|bin| *bin > from).min();
        next.unwrap_or(self.recording.end).min(self.recording.end)
    }

    /// What every host is asked for at a moment.
    fn rates(&self, at: Bin) -> &[f64] {
        let shaped = self
            .recording
            .events
            .iter()
            .filter_map(|event| match &event.what {
                Happening::Shaped { rates, .. } if event.bin <= at => Some(rates.as_slice()),
                _ => None,
            });
        shaped.fold(&[], |_, rates| rates)
    }

    /// The budget, less the floors of idle members.
    fn usable(&self, at: Bin) -> f64 {
        let idle = self.rates(at).iter().filter(|rate| **rate < 1.0).count();
        self.limit.budget.rate - self.limit.floor * idle as f64
    }

    /// Ticks from a moment until all shares are at their optimum.
    fn settled(&self, from: Bin) -> Option<f64> {
        let rates = self.rates(from);
        let optimum = max_min(self.usable(from), rates, &vec![1.0; rates.len()]);
        let end = self
            .recording
            .events
            .iter()
            .map(|event| event.bin)
            .filter(|bin| *bin > from)
            .min()
            .unwrap_or(self.recording.end);
        let budget = crate::oracle::Budget {
            rate: optimum.iter().sum(),
            ..self.limit.budget
        };
        let possible = possible(
            &self.offered,
            from.saturating_sub(LEAST_STRETCH)..end,
            &budget,
        );
        let hosts = &self.recording.hosts;
        let admitted: Vec<Series> = hosts.iter().map(|host| host.admitted.clone()).collect();
        let (rate, tick) = (self.limit.budget.rate, bins(self.timing.tick));
        convergence_ticks(&admitted, &possible, &optimum, rate, tick, from, end)
    }

    fn on_floor(&self, episode: usize, within: Duration) -> Finding {
        let floor = self.limit.floor;
        let measured = self.episodes.get(episode).and_then(|episode| {
            let stretch = episode.bins.start + bins(within)..episode.bins.end;
            let is_long = stretch.end.saturating_sub(stretch.start) >= LEAST_STRETCH;
            let furthest = |a: f64, b: f64| {
                if (a - floor).abs() > (b - floor).abs() {
                    a
                } else {
                    b
                }
            };
            let is_hit = |host: &usize| episode.hosts.is_empty() || episode.hosts.contains(host);
            let hosts = (0..self.recording.hosts.len()).filter(is_hit);
            let rates = hosts.map(|host| self.rate_of(host, &stretch));
            rates.reduce(furthest).filter(|_| is_long)
        });
        self.finding(
            "the hosts that were hit are on their floors",
            measured,
            (
                floor * (1.0 - FLOOR_TOLERANCE),
                floor * (1.0 + FLOOR_TOLERANCE),
            ),
            "packets/s",
        )
    }

    fn rate_of(&self, host: usize, bins: &Range<Bin>) -> f64 {
        self.recording.hosts[host].admitted.rate(bins.clone())
    }

    fn lowest(&self, window: u64) -> Option<f64> {
        let first = self.episodes.first()?.bins.start;
        let possible = possible_without_burst(
            &self.offered,
            first.saturating_sub(LEAST_STRETCH)..self.recording.end,
            self.usable(first),
        );
        let windows = first..self.recording.end.saturating_sub(window);
        let part = |bin: Bin| {
            let window = bin..bin + window;
            self.admitted.sum(window.clone()) as f64 / possible.sum(window) as f64
        };
        windows
            .map(part)
            .filter(|part| part.is_finite())
            .reduce(f64::min)
    }

    fn budget_after(&self, episode: usize, rate: f64) -> Finding {
        let measured = self.episodes.get(episode).map(|found| {
            let begin = found.bins.start + bins(self.timing.lease);
            let next = self.episodes.iter().map(|other| other.bins.start);
            let end = next.filter(|bin| *bin > found.bins.start).min();
            let stretch = begin..end.unwrap_or(self.recording.end);
            over_admission(&self.admitted.part(&stretch), &ground::budget(rate))
        });
        let what = "never above the new budget, from one lease on";
        Finding {
            judged: true,
            ..self.finding(what, measured, (0.0, OVER_ADMISSION), "s of budget")
        }
    }
}

fn bins(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("timings are short")
}
