//! What has to hold in a scenario, and whether it did. Pure: a recording in, findings out.

use std::{ops::Range, time::Duration};

use super::{Finding, IN_BUDGET, OVER_ADMISSION, figure, ground, hot};
use crate::{
    fleet::Timing,
    oracle::{
        convergence_ticks, max_min, over_admission, possible, possible_without_burst, recovery_bins,
    },
    series::{Bin, Series},
    stage::{
        self, Episode, FULLY_IN_USE, Fault, Happening, Judgement, LEAST_PACE, LimitUnderTest,
        Recording,
    },
};

/// A host on its floor may be this far from it: its last burst, and the edges of bins.
const FLOOR_TOLERANCE: f64 = 0.15;
/// Events that have to be lost for the ring to have been full, and not merely near it.
const LEAST_EVENTS_LOST: f64 = 1_000.0;
/// What a fall to the floor is looked for in.
const FALL_WINDOW: Bin = 100;
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
    /// The hosts that fault number so much hit are on their floors within this, until it ends.
    OnFloor(usize, Duration),
    /// The hosts that fault number so much hit admit nothing any more from this after it, to the end.
    GivenBack(usize, Duration),
    /// All hosts are on their floors within this of that fault, until no fault is in force.
    AllOnFloor(usize, Duration),
    /// After that fault all shares are what they should be within so many ticks.
    Back(usize, f64),
    /// After the last fault the budget is fully in use, and all shares are what they should be, within so
    /// many ticks of when ZooKeeper has a quorum again by its servers' word.
    FullOnceQuorum(f64),
    /// After every move of the traffic, the same.
    Convergence(f64),
    /// No gap of more than 300 ms between commits, at any host. A host that was not heard at both ends of
    /// the run shows nothing.
    NoMissedTick,
    /// No host that no fault hit falls to its floor. Where all were hit it shows nothing.
    NobodyElseFalls,
    /// No host does, hit or not.
    NobodyFalls,
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
    /// The data plane of the host that fault number so much hit counts events that found no room.
    RingFull(usize),
    /// The source of the strict keyed limit never has more than its rate and burst over all hosts.
    StrictKey,
    /// That of the elastic one has no more than that and the excess, once it is merged.
    ElasticKey,
    /// Both have at least this part of their rates in every second outside the settle intervals.
    KeysUse(f64),
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
        IN_BUDGET,
    );
    let mut findings = vec![Finding {
        judged: true,
        ..over
    }];
    for expect in expected {
        findings.extend(examiner.examine(*expect));
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

    fn examine(&self, expect: Expect) -> Vec<Finding> {
        match expect {
            Expect::OnFloor(episode, within) => self.on_floor(episode, within, false),
            Expect::AllOnFloor(episode, within) => self.on_floor(episode, within, true),
            Expect::FullOnceQuorum(ticks) => self.full_once_quorum(ticks),
            Expect::KeysUse(least) => [0, 1].map(|key| self.key_use(key, least)).to_vec(),
            other => vec![self.examine_one(other)],
        }
    }

    fn examine_one(&self, expect: Expect) -> Finding {
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
            Expect::Back(episode, ticks) => self.finding(
                "shares are back after the fault",
                self.episodes
                    .get(episode)
                    .and_then(|episode| self.settled(episode.in_force.end, episode.bins.end)),
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
                self.finding("missed ticks", missed, (0.0, 0.0), "ticks")
            }
            Expect::NobodyElseFalls => {
                let is_hit = |host: usize| self.episodes.iter().any(|e| e.hosts.contains(&host));
                let falls = self.count(|host| !is_hit(host), |said| said.falls);
                let what = "other hosts that fell to their floors";
                self.finding(what, falls, (0.0, 0.0), "falls")
            }
            Expect::NobodyFalls => {
                let falls = self.count(|_| true, |said| said.falls);
                self.finding(
                    "hosts that fell to their floors",
                    falls,
                    (0.0, 0.0),
                    "falls",
                )
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
                        IN_BUDGET,
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
            Expect::RingFull(episode) => self.ring_full(episode),
            Expect::GivenBack(episode, within) => {
                let admitted = self.episodes.get(episode).map(|episode| {
                    let rest = episode.in_force.start + bins(within)..self.recording.end;
                    let hit = episode.hosts.iter();
                    hit.map(|host| self.recording.hosts[*host].admitted.sum(rest.clone()))
                        .sum::<u64>()
                });
                let what = "packets that hosts admit which gave all back";
                Finding {
                    judged: true,
                    ..self.finding(what, admitted.map(|sum| sum as f64), (0.0, 0.0), "packets")
                }
            }
            Expect::StrictKey => self.budget_of(
                "the strict source, never above its rate",
                hot::strict_excess(&self.key(0), &ground::key_budget()),
            ),
            Expect::ElasticKey => {
                let (members, run) = (self.recording.hosts.len(), self.run());
                let budget = ground::key_budget();
                let excess = hot::elastic_excess(&self.key(1), &budget, members, &run);
                self.budget_of(
                    "the elastic source, once merged, never above its excess",
                    excess,
                )
            }
            Expect::OnFloor(..)
            | Expect::AllOnFloor(..)
            | Expect::FullOnceQuorum(_)
            | Expect::KeysUse(_) => unreachable!("these have several findings"),
        }
    }

    /// What is judged always.
    fn budget_of(&self, what: &str, excess: Option<f64>) -> Finding {
        Finding {
            judged: true,
            ..self.finding(what, excess, (0.0, OVER_ADMISSION), IN_BUDGET)
        }
    }

    fn run(&self) -> Range<Bin> {
        let begin = self.recording.events.first().map_or(0, |event| event.bin);
        begin..self.recording.end
    }

    /// A hot source over all hosts.
    fn key(&self, key: usize) -> Series {
        let hosts = self.recording.hosts.iter();
        Series::total(
            hosts
                .filter_map(|host| host.keys.get(key))
                .collect::<Vec<_>>(),
        )
    }

    fn key_use(&self, key: usize, least: f64) -> Finding {
        let settle = self
            .judgement
            .settle
            .iter()
            .map(|settle| settle.bins.clone());
        let settle: Vec<Range<Bin>> = settle.collect();
        let rate = ground::key_budget().rate;
        let measured = hot::least_use(&self.key(key), rate, &self.run(), &settle);
        let name = ["strict", "elastic"][key];
        let what = format!("the {name} source, the least of any second");
        self.finding(&what, measured, (least, MORE), "of 1")
    }

    /// By the kernel's own count, which outlives daemons.
    fn ring_full(&self, episode: usize) -> Finding {
        let hit = self
            .episodes
            .get(episode)
            .and_then(|episode| episode.hosts.first());
        let heard = hit.filter(|host| self.recording.was_heard(**host));
        let lost = heard.map(|host| {
            self.recording
                .grew(*host, &self.run(), |said| said.events_lost)
        });
        Finding {
            judged: true,
            ..self.finding(
                "events that found the ring full",
                lost.map(|lost| lost as f64),
                (LEAST_EVENTS_LOST, MORE),
                "events",
            )
        }
    }

    /// `None` if a host of whom it is asked was not heard, or none is asked.
    fn count(&self, hosts: impl Fn(usize) -> bool, what: fn(&stage::Said) -> u64) -> Option<f64> {
        let hosts = (0..self.recording.hosts.len()).filter(|host| hosts(*host));
        let hosts: Vec<usize> = hosts.collect();
        let is_known = |host: &usize| self.recording.was_heard(*host);
        let grown = hosts
            .iter()
            .map(|host| self.recording.grew(*host, &self.run(), what));
        let sum = grown.sum::<u64>() as f64;
        (!hosts.is_empty() && hosts.iter().all(is_known)).then_some(sum)
    }

    fn flows(&self) -> Series {
        let flows = self.recording.hosts.iter().map(|host| &host.flows);
        Series::total(flows.collect::<Vec<_>>())
    }

    /// Reckoned from what ZooKeeper's servers say of themselves: that Weir's clients have to find them again
    /// is Weir's own delay.
    fn full_once_quorum(&self, ticks: f64) -> Vec<Finding> {
        let last = self.episodes.iter().map(|episode| episode.bins.end).max();
        let quorum = self.recording.quorum_since().filter(|_| last.is_some());
        let end = self.recording.end;
        let full = quorum.and_then(|from| self.recovered(from, from..end));
        let tick = bins(self.timing.tick) as f64;
        vec![
            self.finding(
                "budget fully in use once ZooKeeper has a quorum",
                full.map(|bins| bins as f64 / tick),
                (0.0, ticks),
                "ticks",
            ),
            self.finding(
                "shares are back once ZooKeeper has a quorum",
                quorum.and_then(|from| self.settled(from, from)),
                (0.0, ticks),
                "ticks",
            ),
        ]
    }

    /// The longest of all faults; `None` if one never ended in full use.
    fn recovery(&self, edge: Edge) -> Option<u64> {
        let measured = self.episodes.iter().map(|episode| {
            let from = match edge {
                Edge::Begin => episode.bins.start,
                Edge::End => episode.in_force.end,
            };
            self.recovered(from, from..self.boundary(from, episode))
        });
        measured.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }

    /// Bins from the beginning of a stretch until the budget is fully in use, and stays so.
    fn recovered(&self, from: Bin, stretch: Range<Bin>) -> Option<u64> {
        // What could be admitted is reckoned from a while before, so that its bucket is right.
        let reckoned = from.saturating_sub(LEAST_STRETCH)..stretch.end;
        let possible = possible_without_burst(&self.offered, reckoned, self.usable(from));
        let tick = bins(self.timing.tick);
        recovery_bins(
            &self.admitted,
            &possible,
            FULLY_IN_USE,
            tick,
            stretch.start,
            stretch.end,
        )
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

    /// The budget in force, less the floors of idle members.
    fn usable(&self, at: Bin) -> f64 {
        let idle = self.rates(at).iter().filter(|rate| **rate < 1.0).count();
        let initial = self.limit.budget.rate;
        let rate = self.recording.rate_at(at, initial);
        rate - self.limit.floor * rate / initial * idle as f64
    }

    /// Ticks from a moment until all shares are at their optimum, up to what happens after `last`.
    fn settled(&self, from: Bin, last: Bin) -> Option<f64> {
        let rates = self.rates(from);
        let optimum = max_min(self.usable(from), rates, &vec![1.0; rates.len()]);
        let end = self
            .recording
            .events
            .iter()
            .map(|event| event.bin)
            .filter(|bin| *bin > last)
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

    /// Two figures: when the last of them fell to its floor, and what they admitted from when they should
    /// have.
    fn on_floor(&self, episode: usize, within: Duration, all: bool) -> Vec<Finding> {
        let found = self.episodes.get(episode);
        let stretch = found.map(|episode| {
            let last = self.episodes.iter().map(|other| other.in_force.end).max();
            let end = last.filter(|_| all).unwrap_or(episode.in_force.end);
            episode.in_force.start..end
        });
        let hosts: Vec<usize> = match found {
            Some(episode) if !all => episode.hosts.clone(),
            _ => (0..self.recording.hosts.len()).collect(),
        };
        let floor = self.limit.floor;
        let fell = stretch.clone().and_then(|stretch| {
            let admitted = hosts
                .iter()
                .map(|host| &self.recording.hosts[*host].admitted);
            let fell = admitted.map(|host| fell_within(host, floor, &stretch));
            fell.collect::<Option<Vec<u64>>>()?.into_iter().max()
        });
        let rate = stretch.and_then(|stretch| {
            let stretch = stretch.start + bins(within)..stretch.end;
            let is_long = stretch.end.saturating_sub(stretch.start) >= LEAST_STRETCH;
            let furthest = |a: f64, b: f64| {
                if (a - floor).abs() > (b - floor).abs() {
                    a
                } else {
                    b
                }
            };
            let rates = hosts.iter().map(|host| self.rate_of(*host, &stretch));
            rates.reduce(furthest).filter(|_| is_long)
        });
        let whom = if all {
            "all hosts"
        } else {
            "the hosts that were hit"
        };
        vec![
            self.finding(
                &format!("{whom} have fallen to their floors"),
                fell.map(|bins| bins as f64),
                (0.0, within.as_millis() as f64),
                "ms",
            ),
            self.finding(
                &format!("{whom} are on their floors"),
                rate,
                (
                    floor * (1.0 - FLOOR_TOLERANCE),
                    floor * (1.0 + FLOOR_TOLERANCE),
                ),
                "packets/s",
            ),
        ]
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
            let next = next.filter(|bin| *bin > found.bins.start).min();
            let end = match found.fault {
                // What is on trial goes back by itself, and not before.
                Fault::Trial { within, .. } => found.bins.start + bins(within),
                _ => next.unwrap_or(self.recording.end),
            };
            let stretch = begin..end;
            over_admission(&self.admitted.part(&stretch), &ground::budget(rate))
        });
        let what = "never above the new budget, from one lease on";
        Finding {
            judged: true,
            ..self.finding(what, measured, (0.0, OVER_ADMISSION), IN_BUDGET)
        }
    }
}

/// Bins from the beginning of a stretch until a host is on its floor, to its end: from then on no window
/// of a tenth of a second admits half as much again as the floor. `None` if it is not at the end.
fn fell_within(admitted: &Series, floor: f64, stretch: &Range<Bin>) -> Option<u64> {
    let most = 1.5 * floor * FALL_WINDOW as f64 / 1e3;
    let starts = stretch.start..stretch.end.saturating_sub(FALL_WINDOW);
    let is_above = |start: &Bin| admitted.sum(*start..start + FALL_WINDOW) as f64 > most;
    let above = starts.clone().rev().find(is_above);
    match above {
        None if starts.is_empty() => None,
        None => Some(0),
        Some(last) if last + 1 >= starts.end => None,
        Some(last) => Some(last + 1 - starts.start),
    }
}

fn bins(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("timings are short")
}

#[cfg(test)]
mod tests;
