//! Ten flows that back off, behind three limiters of 10 Mbit/s together, seven behind one and three
//! behind another.
//!
//! The setting is that of distributed rate limiting by flow proportional share (Raghavan,
//! Vishwanath, Ramabhadran, Yocum and Snoeren, *Cloud Control with Distributed Rate Limiting*,
//! SIGCOMM 2007), as a later replication measured it. There a limiter's share follows the number of
//! its flows. Here a share follows demand, and is fair between *hosts*: flows behind a crowded host
//! get less each, unless the host's weight says how many there are. Both are measured.
//!
//! A flow is a window that grows by one segment each round trip of 40 ms and is halved when a
//! segment of it is dropped, at most once a round trip (the congestion avoidance of RFC 5681,
//! section 3.1, without time-outs).

use super::{Figure, Yardstick};
use crate::{
    dice::Dice,
    fairness::jain_index,
    load::Pattern,
    world::{STEP, Settings, World},
};

/// How long it is played, in seconds.
pub const SECONDS: u64 = 120;
/// Flows behind each limiter.
const FLOWS: [usize; 3] = [7, 3, 0];
const ROUND_TRIP_MS: u64 = 40;
/// Not judged: the fleet forms, and windows grow.
const FORMATION_S: u64 = 20;

/// Plays it for so many seconds of virtual time, with hosts of equal weights and with weights that
/// are the numbers of flows.
#[must_use]
pub fn measure(seed: u64, seconds: u64) -> Yardstick {
    let equal = Play::new(seed, seconds, [1, 1, 1]).run(seconds);
    let weighted = Play::new(seed, seconds, [7, 3, 1]).run(seconds);
    let figure = |what, published, measured| Figure {
        what,
        published,
        measured,
    };
    Yardstick {
        name: "flow shares",
        story: "three limiters, 10 Mbit/s together, ten flows that back off, 7 : 3 : 0",
        source: "a replication of flow proportional share (SIGCOMM 2007)",
        figures: vec![
            figure("utilisation, %", Some(98.0), 100.0 * equal.utilisation),
            figure(
                "utilisation, %, weights 7 : 3",
                Some(98.0),
                100.0 * weighted.utilisation,
            ),
            figure(
                "Jain's index of the flows, weights 7 : 3",
                Some(0.979),
                weighted.flows,
            ),
            figure(
                "Jain's index of the flows, equal weights",
                Some(0.979),
                equal.flows,
            ),
            figure(
                "Jain's index of the two hosts, equal weights",
                None,
                equal.hosts,
            ),
        ],
        is_kept: equal.is_kept && weighted.is_kept,
    }
}

struct Outcome {
    utilisation: f64,
    flows: f64,
    hosts: f64,
    is_kept: bool,
}

#[derive(Clone, Debug)]
struct Flow {
    host: usize,
    /// Segments in a round trip.
    window: f64,
    /// It has been halved in this round trip.
    is_halved: bool,
    admitted: f64,
}

struct Play {
    world: World,
    dice: Dice,
    flows: Vec<Flow>,
}

impl Play {
    fn new(seed: u64, seconds: u64, weights: [u32; 3]) -> Self {
        let mut world = World::new(Settings {
            pattern: Some(Pattern::Steady),
            ..Settings::calm(seed, FLOWS.len(), 10 * seconds)
        });
        for (host, weight) in world.hosts.iter_mut().zip(weights) {
            host.weight = weight;
        }
        let flows = FLOWS.iter().enumerate().flat_map(|(host, flows)| {
            (0..*flows).map(move |_| Flow {
                host,
                window: 2.0,
                is_halved: false,
                admitted: 0.0,
            })
        });
        Self {
            world,
            dice: Dice::new(seed ^ 0x2007),
            flows: flows.collect(),
        }
    }

    fn run(mut self, seconds: u64) -> Outcome {
        let step_ms = STEP.as_millis() as u64;
        let mut admitted_before = 0;
        for step in 1..=1_000 * seconds / step_ms {
            let ms = step * step_ms;
            if self.world.judge.violation.is_some() {
                break;
            }
            self.send();
            let before = self.counters();
            self.world.run_until_ms(ms);
            let is_judged = ms > 1_000 * FORMATION_S;
            self.hear(&before, is_judged);
            if ms.is_multiple_of(ROUND_TRIP_MS) {
                self.grow();
            }
            if ms == 1_000 * FORMATION_S {
                admitted_before = self.world.admitted(0);
            }
        }
        let limit = &self.world.policy.limits[0];
        let rate = limit.scale.tokens_per_second(limit.budget.rate);
        let admitted = (self.world.admitted(0) - admitted_before) as f64;
        let flows: Vec<f64> = self.flows.iter().map(|flow| flow.admitted).collect();
        let of_host = |host| {
            let own = self.flows.iter().filter(|flow| flow.host == host);
            own.map(|flow| flow.admitted).sum::<f64>()
        };
        Outcome {
            utilisation: admitted / (rate * (seconds - FORMATION_S) as f64),
            flows: jain_index(&flows, &vec![1.0; flows.len()]),
            hosts: jain_index(&[of_host(0), of_host(1)], &[1.0; 2]),
            is_kept: self.world.judge.violation.is_none(),
        }
    }

    fn counters(&self) -> Vec<(u64, u64)> {
        let hosts = self.world.hosts.iter();
        hosts
            .map(|host| (host.counters[0].offered, host.counters[0].admitted))
            .collect()
    }

    /// A window is sent once a round trip.
    fn send(&mut self) {
        for host in 0..FLOWS.len() {
            let own = self.flows.iter().filter(|flow| flow.host == host);
            let segments: f64 = own.map(|flow| flow.window).sum();
            let rate = segments * 1_000.0 / ROUND_TRIP_MS as f64;
            self.world.loads[0].set_demand(host, rate);
        }
    }

    /// What of the last step got through, and whose segments did not.
    fn hear(&mut self, before: &[(u64, u64)], is_judged: bool) {
        let after = self.counters();
        for (host, ((offered_before, admitted_before), (offered, admitted))) in
            before.iter().zip(after).enumerate()
        {
            let offered = (offered - offered_before) as f64;
            let admitted = (admitted - admitted_before) as f64;
            if offered == 0.0 {
                continue;
            }
            let windows: f64 = self
                .flows
                .iter()
                .filter(|flow| flow.host == host)
                .map(|flow| flow.window)
                .sum();
            for flow in self.flows.iter_mut().filter(|flow| flow.host == host) {
                let part = flow.window / windows;
                if is_judged {
                    flow.admitted += part * admitted;
                }
                // At least one of so many segments is dropped, if each is with the same odds.
                let segments = part * offered;
                let kept = (admitted / offered).powf(segments);
                let is_hit = (self.dice.roll(1_000_000) as f64) < (1.0 - kept) * 1_000_000.0;
                if is_hit && !flow.is_halved {
                    flow.window = (flow.window / 2.0).max(1.0);
                    flow.is_halved = true;
                }
            }
        }
    }

    fn grow(&mut self) {
        for flow in &mut self.flows {
            if !std::mem::take(&mut flow.is_halved) {
                flow.window += 1.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_make_flows_as_even_as_was_published() {
        let yardstick = measure(1, 60);
        assert!(yardstick.is_kept, "{yardstick:?}");
        let [used, used_weighted, flows, ..] = &yardstick.figures[..] else {
            panic!("{yardstick:?}");
        };
        for figure in [used, used_weighted, flows] {
            assert!(
                figure.measured >= figure.published.unwrap_or(0.0),
                "{yardstick:?}"
            );
        }
    }
}
