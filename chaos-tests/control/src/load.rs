//! Who wants how much of what.

use std::time::Duration;

use weir_model::{Amount, Limit, LimitId, Policy, message::LimitReport};
use weir_sim::{dice::Dice, limits::SCALE};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// What all nodes want together of a limit, evenly, in percent of its rate.
const EVEN_PERCENT: u64 = 70;
/// What one node wants besides.
const HOT_PERCENT: u64 = 60;

/// What each node wants of each limit, and what it has counted.
pub(crate) struct Load {
    dice: Dice,
    nodes: usize,
    /// Tokens a second that are the whole of each limit.
    rates: Vec<u64>,
    /// By how many nodes the hot ones have moved on.
    moved: usize,
    counters: Vec<Vec<LimitReport>>,
    /// What was wanted and not yet a whole token, in billionths.
    rests: Vec<Vec<u64>>,
    /// What may be spent at once, in billionths: each pair has a token bucket.
    buckets: Vec<Vec<u64>>,
    /// Pairs of node and limit whose demand becomes another one in a tick, in percent.
    changing: u32,
    /// What each node wants of each limit, in percent of what it would if nothing ever changed.
    percents: Vec<Vec<u8>>,
}

impl Load {
    pub(crate) fn new(policy: &Policy, nodes: usize, changing: u32) -> Self {
        let rate = |limit: &Limit| limit.budget.rate.0 >> limit.scale.fraction_bits;
        let blank = |limit: &Limit| LimitReport {
            limit: limit.id,
            ..LimitReport::default()
        };
        let blank: Vec<_> = policy.limits.iter().map(blank).collect();
        Self {
            dice: Dice::new(1),
            nodes,
            rates: policy.limits.iter().map(rate).collect(),
            moved: 0,
            rests: vec![vec![0; blank.len()]; nodes],
            buckets: vec![vec![0; blank.len()]; nodes],
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

    /// Some time passes on one node, about a tick and less than a minute. `granted` tells what it
    /// holds of each limit.
    pub(crate) fn pass(
        &mut self,
        node: usize,
        elapsed: Duration,
        granted: impl Fn(LimitId) -> Amount,
    ) -> &[LimitReport] {
        let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let elapsed = elapsed.min(60 * SECOND);
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
            let rest = &mut self.rests[node][limit];
            *rest += wanted * u64::from(*percent) / 100 * elapsed;
            let wanted = *rest / SECOND;
            *rest %= SECOND;
            let counter = &mut self.counters[node][limit];
            let bucket = &mut self.buckets[node][limit];
            *bucket = filled(*bucket, granted(counter.limit), elapsed);
            let admitted = wanted.min(*bucket / SECOND);
            *bucket -= admitted * SECOND;
            counter.offered += wanted;
            counter.admitted += admitted;
            counter.dropped += wanted - admitted;
        }
        &self.counters[node]
    }
}

/// A bucket after some nanoseconds, in billionths of a token.
fn filled(bucket: u64, granted: Amount, elapsed: u64) -> u64 {
    let billionths = |units: u64, times: u64| {
        let product = (u128::from(units) * u128::from(times)) >> SCALE.fraction_bits;
        u64::try_from(product).unwrap_or(u64::MAX)
    };
    let depth = billionths(granted.burst.0, SECOND);
    let arrived = billionths(granted.rate.0, elapsed);
    // Counters are read once a tick: what arrived within it could be spent, however small a burst.
    bucket.min(depth).saturating_add(arrived)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::Start;

    #[test]
    fn a_steady_load_is_so_however_long_ticks_are() {
        let start = Start::new(7, 1);
        let offered = |ticks_ms: &[u64]| {
            let mut load = Load::new(&start.policy, 7, 0);
            let mut offered = 0;
            for ms in ticks_ms {
                let elapsed = Duration::from_millis(*ms);
                offered = load.pass(3, elapsed, |_| Amount::ZERO)[0].offered;
            }
            offered
        };
        // Seven tenths of what is a node's part of the limit, which is 10,000 a second.
        assert_eq!(offered(&[100; 10]), 7_000);
        assert_eq!(
            offered(&[93, 107, 101, 99, 100, 250, 50, 100, 3, 97]),
            7_000
        );
    }
}
