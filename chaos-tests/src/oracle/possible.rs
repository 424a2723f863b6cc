//! What could have been admitted.

use std::ops::Range;

use super::Budget;
use crate::series::{BINS_PER_SECOND, Bin, Series};

/// Seconds of rate: the pace of a sender that sends every millisecond, and some jitter.
const SMALL_BURST_SECONDS: f64 = 0.005;

/// What one perfect token bucket for the whole fleet, empty at first, would have admitted of what
/// was offered.
///
/// Shares are measured against it rather than against the bare rate: where a sender or the whole
/// machine stood still for some milliseconds, nobody could admit anything, and what was saved up
/// may be spent just after.
#[must_use]
pub fn possible(offered: &Series, bins: Range<Bin>, budget: &Budget) -> Series {
    let fill = budget.rate / BINS_PER_SECOND;
    let mut tokens = 0.0_f64;
    let counts = bins.clone().map(|bin| {
        tokens = (tokens + fill).min(budget.burst.max(1.0));
        let admitted = f64::from(offered.at(bin)).min(tokens.floor());
        tokens -= admitted;
        admitted as u32
    });
    Series::new(bins.start, counts.collect())
}

/// What one bucket of hardly any burst would have admitted: the least that a fleet that uses its
/// whole rate admits, however its burst is divided between the hosts.
#[must_use]
pub fn possible_without_burst(offered: &Series, bins: Range<Bin>, rate: f64) -> Series {
    let burst = rate * SMALL_BURST_SECONDS;
    let budget = Budget {
        rate,
        burst,
        drift: 0.0,
    };
    possible(offered, bins, &budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        rate: 10_500.0,
        burst: 100.0,
        drift: 0.0,
    };

    #[test]
    fn overload_gets_the_rate_and_nothing_more() {
        let admitted = possible(&Series::new(0, vec![30; 1_000]), 0..1_000, &BUDGET);
        assert_eq!(admitted.sum(0..1_000), 10_500);
        assert_eq!(admitted.sum(100..200), 1_050);
    }

    #[test]
    fn without_burst_a_stall_is_lost() {
        let mut counts = vec![30; 200];
        counts[50..150].fill(0);
        let admitted = possible_without_burst(&Series::new(0, counts), 0..200, 10_500.0);
        let bins = 100.0 + 5.0;
        assert!((admitted.sum(0..200) as f64 - bins * 10.5).abs() <= 12.0);
    }

    #[test]
    fn what_is_below_the_rate_all_passes() {
        let offered = Series::new(0, vec![7; 100]);
        assert_eq!(possible(&offered, 0..100, &BUDGET), offered);
    }

    #[test]
    fn a_stall_is_made_up_for_by_the_burst_at_most() {
        let mut counts = vec![30; 200];
        counts[50..55].fill(0);
        counts[100..150].fill(0);
        let admitted = possible(&Series::new(0, counts), 0..200, &BUDGET);
        assert_eq!(admitted.sum(50..55), 0);
        assert_eq!(admitted.sum(0..100), 1_050);
        // A full bucket, and the 49 bins after it.
        assert_eq!(admitted.sum(100..200), 100 + 49 * 21 / 2);
    }
}
