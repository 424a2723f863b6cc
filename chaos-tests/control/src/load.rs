//! Who wants how much of what.

use weir_model::{Limit, LimitId, Policy, message::LimitReport};
use weir_sim::dice::Dice;

/// Ticks in a second.
const TICKS: u64 = 10;
/// What all nodes want together of a limit, evenly, in percent of its rate.
const EVEN_PERCENT: u64 = 70;
/// What one node wants besides.
const HOT_PERCENT: u64 = 60;

/// What each node wants of each limit, and what it has counted.
pub(crate) struct Load {
    dice: Dice,
    nodes: usize,
    /// Tokens a tick that are the whole of each limit.
    rates: Vec<u64>,
    /// By how many nodes the hot ones have moved on.
    moved: usize,
    counters: Vec<Vec<LimitReport>>,
    /// Pairs of node and limit whose demand becomes another one in a tick, in percent.
    changing: u32,
    /// What each node wants of each limit, in percent of what it would if nothing ever changed.
    percents: Vec<Vec<u8>>,
}

impl Load {
    pub(crate) fn new(policy: &Policy, nodes: usize, changing: u32) -> Self {
        let per_tick = |limit: &Limit| (limit.budget.rate.0 >> limit.scale.fraction_bits) / TICKS;
        let blank = |limit: &Limit| LimitReport {
            limit: limit.id,
            ..LimitReport::default()
        };
        let blank: Vec<_> = policy.limits.iter().map(blank).collect();
        Self {
            dice: Dice::new(1),
            nodes,
            rates: policy.limits.iter().map(per_tick).collect(),
            moved: 0,
            counters: vec![blank; nodes],
            changing,
            percents: vec![vec![100; policy.limits.len()]; nodes],
        }
    }

    /// The node that wants most of a limit.
    pub(crate) fn hot(&self, limit: usize) -> usize {
        (limit + self.moved) % self.nodes
    }

    /// What is hot is so on another node from now on.
    pub(crate) fn shift(&mut self) {
        self.moved += 1;
    }

    /// The best share of each node in one limit, in parts of its rate: what is wanted evenly is
    /// had, and the hot node has the rest.
    pub(crate) fn best(&self, limit: usize, node: usize) -> f64 {
        let even = EVEN_PERCENT as f64 / 100.0 / self.nodes as f64;
        if node == self.hot(limit) {
            1.0 - EVEN_PERCENT as f64 / 100.0 + even
        } else {
            even
        }
    }

    /// A tick passes on one node, which may spend so many tokens of each limit in it.
    pub(crate) fn tick(&mut self, node: usize, granted: impl Fn(LimitId) -> u64) -> &[LimitReport] {
        for limit in 0..self.rates.len() {
            let rate = self.rates[limit];
            let mut wanted = rate * EVEN_PERCENT / 100 / self.nodes as u64;
            if node == self.hot(limit) {
                wanted += rate * HOT_PERCENT / 100;
            }
            let percent = &mut self.percents[node][limit];
            if self.dice.roll(100) < u64::from(self.changing) {
                *percent = 75 + self.dice.roll(51) as u8;
            }
            wanted = wanted * u64::from(*percent) / 100;
            let counter = &mut self.counters[node][limit];
            let admitted = wanted.min(granted(counter.limit));
            counter.offered += wanted;
            counter.admitted += admitted;
            counter.dropped += wanted - admitted;
        }
        &self.counters[node]
    }
}
