//! 45 clients of one capacity for an hour, with spikes of demand and servers that are lost.
//!
//! The scenario is the seventh of the simulation that came before Doorman, the cooperative rate
//! limiter of `YouTube` (`github.com/youtube/doorman`, `simulation/scenario_seven.py` and
//! `doc/design.md`, "Convergence and shortfall"): a capacity of 500, and 45 clients that want 15
//! each, which every 10 s becomes up to a tenth more or less. Once a minute one of three mishaps
//! happens: a client wants 100 more, a server's master is elected anew, or it is lost for up to a
//! minute. What is handed out is looked at each 5 s, beginning after the start.
//!
//! Here clients are hosts, and who leads is one of them: to lose the master is to kill a host's
//! daemon, which costs that host its share too. There is one level where Doorman has three, and a
//! tick is 100 ms where Doorman's clients ask each 5 s or so; the comparison is of what a fleet's
//! operator sees, not of two algorithms at one message rate. Mishaps are equally likely, which
//! loses more masters than the original's order of dictionary keys does.

use std::time::Duration;

use super::{Figure, Yardstick};
use crate::{
    dice::Dice,
    fairness::max_min,
    load::Pattern,
    world::{Settings, World},
};

/// An hour, in seconds.
pub const HOUR_S: u64 = 3_600;
const CLIENTS: usize = 45;
/// Parts of the capacity.
const CAPACITY: f64 = 500.0;
const WANTS: f64 = 15.0;
const SPIKE: f64 = 100.0;
/// Not judged: the fleet forms, as the original leaves out the servers' learning.
const FORMATION_S: u64 = 10;
const SAMPLE_MS: u64 = 5_000;
/// A spike is absorbed once no host lacks more than this part of the capacity of its due.
const NEAR: f64 = 0.01;

/// Plays it for so many seconds of virtual time.
#[must_use]
pub fn measure(seed: u64, seconds: u64) -> Yardstick {
    let mut play = Play::new(seed, seconds);
    play.run(seconds);
    play.judged()
}

struct Play {
    world: World,
    dice: Dice,
    /// In parts of the capacity.
    wants: Vec<f64>,
    /// Tokens a second that are one part of the capacity.
    part: f64,
    handed_out: Vec<f64>,
    spiked_ms: Option<u64>,
    absorbed_ms: Vec<u64>,
    admitted_before: u64,
}

impl Play {
    fn new(seed: u64, seconds: u64) -> Self {
        let world = World::new(Settings {
            pattern: Some(Pattern::Steady),
            ..Settings::calm(seed, CLIENTS, 10 * seconds)
        });
        let limit = &world.policy.limits[0];
        let part = limit.scale.tokens_per_second(limit.budget.rate) / CAPACITY;
        Self {
            world,
            dice: Dice::new(seed ^ 0x0007),
            wants: vec![WANTS; CLIENTS],
            part,
            handed_out: Vec::new(),
            spiked_ms: None,
            absorbed_ms: Vec::new(),
            admitted_before: 0,
        }
    }

    fn run(&mut self, seconds: u64) {
        for tick in 1..=10 * seconds {
            if self.world.judge.violation.is_some() {
                return;
            }
            if tick.is_multiple_of(100) {
                self.wander();
            }
            if tick.is_multiple_of(600) && tick < 10 * seconds {
                self.mishap();
            }
            let ms = 100 * tick;
            self.world.run_until_ms(ms);
            self.look(ms);
            if ms == 1_000 * FORMATION_S {
                self.admitted_before = self.world.admitted(0);
            }
        }
    }

    fn set(&mut self, client: usize, wants: f64) {
        self.wants[client] = wants;
        self.world.loads[0].set_demand(client, wants * self.part);
    }

    fn wander(&mut self) {
        for client in 0..CLIENTS {
            let turn = self.dice.roll(2_001) as f64 / 1_000.0 - 1.0;
            self.set(client, self.wants[client] * (1.0 + turn / 10.0));
        }
    }

    fn mishap(&mut self) {
        match self.dice.roll(3) {
            0 => {
                let client = self.dice.index(CLIENTS);
                self.set(client, self.wants[client] + SPIKE);
                self.spiked_ms = Some(self.world.elapsed_ms());
            }
            1 => self.lose_leader(Duration::from_secs(1)),
            _ => {
                let seconds = self.dice.roll(61);
                self.lose_leader(Duration::from_secs(seconds));
            }
        }
    }

    fn lose_leader(&mut self, back_after: Duration) {
        if let Some(leader) = self.world.leader() {
            self.world.kill(leader, false, back_after);
        }
    }

    fn look(&mut self, ms: u64) {
        if ms <= 1_000 * FORMATION_S {
            return;
        }
        let held: Vec<f64> = (0..CLIENTS)
            .map(|client| self.world.rate(0, client) / self.part)
            .collect();
        if ms.is_multiple_of(SAMPLE_MS) {
            self.handed_out.push(held.iter().sum::<f64>() / CAPACITY);
        }
        let Some(spiked_ms) = self.spiked_ms else {
            return;
        };
        let due = max_min(CAPACITY, &self.wants, &[1.0; CLIENTS]);
        let is_absorbed = held
            .iter()
            .zip(&self.wants)
            .zip(due)
            .all(|((held, wants), due)| due - held.min(*wants) <= NEAR * CAPACITY);
        if is_absorbed {
            self.absorbed_ms.push(ms - spiked_ms);
            self.spiked_ms = None;
        }
    }

    fn judged(self) -> Yardstick {
        let percent = |part: f64| 100.0 * part;
        let samples = self.handed_out.len().max(1) as f64;
        let mean = self.handed_out.iter().sum::<f64>() / samples;
        let peak = self.handed_out.iter().copied().fold(0.0, f64::max);
        let seconds = self.world.elapsed_ms() as f64 / 1_000.0 - FORMATION_S as f64;
        let admitted = (self.world.admitted(0) - self.admitted_before) as f64;
        let used = admitted / (seconds * CAPACITY * self.part);
        let slowest = self.absorbed_ms.iter().max().copied().unwrap_or(0);
        let figure = |what, published, measured| Figure {
            what,
            published,
            measured,
        };
        Yardstick {
            name: "leased capacity",
            story: "45 clients, one hour, each minute a spike of demand or a leader that is lost",
            source: "Doorman, simulation, scenario seven (2016)",
            figures: vec![
                figure(
                    "handed out, mean, % of the capacity",
                    Some(96.6),
                    percent(mean),
                ),
                figure(
                    "handed out, peak, % of the capacity",
                    Some(106.05),
                    percent(peak),
                ),
                figure("admitted, mean, % of the capacity", None, percent(used)),
                figure(
                    "shares are right again after a spike, at the latest, s",
                    Some(120.0),
                    slowest as f64 / 1_000.0,
                ),
                figure("spikes", None, self.absorbed_ms.len() as f64),
                figure("leaders lost", None, self.world.faults.crashes as f64),
            ],
            is_kept: self.world.judge.violation.is_none() && self.spiked_ms.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_of_it_hand_out_more_than_was_published_and_never_too_much() {
        let yardstick = measure(1, 600);
        assert!(yardstick.is_kept, "{yardstick:?}");
        let [handed_out, peak, ..] = &yardstick.figures[..] else {
            panic!("{yardstick:?}");
        };
        assert!(handed_out.measured > 96.6, "{yardstick:?}");
        assert!(peak.measured <= 100.0 + 1e-9, "{yardstick:?}");
    }
}
