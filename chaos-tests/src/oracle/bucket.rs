//! The receiver's own token bucket: did more arrive than the budget allows, in any window?

use crate::series::{BINS_PER_SECOND, Series};

/// What a strict limit promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Packets per second.
    pub rate: f64,
    /// Packets.
    pub burst: f64,
    /// Declared bound of the hosts' clock-rate drift.
    pub drift: f64,
}

/// The largest excess over the budget of any window, in seconds of budget: the receiver's bucket
/// `d = max(0, d − R(1+ρ)·Δt) + n` at every bin, reported as `max(0, max d − B) / R`.
///
/// A bin tells that its packets arrived within one millisecond, not when. So Δt between the first
/// and the last packet of a window is taken as the smallest that the bins allow: the whole bins
/// between the two, without either. Then no excess can hide in a bin's width; up to two
/// bins of budget are reported as excess when there is none.
#[must_use]
pub fn over_admission(admitted: &Series, budget: &Budget) -> f64 {
    let drain = budget.rate * (1.0 + budget.drift) / BINS_PER_SECOND;
    // `level` drains for every bin. A window that ends in this bin and began in an earlier one
    // drained one bin less, which is `level` as it was before this bin's drain.
    let mut level = 0.0_f64;
    let mut highest = 0.0_f64;
    for bin in admitted.span() {
        let packets = f64::from(admitted.at(bin));
        highest = highest.max(level + packets);
        level = (level - drain).max(0.0) + packets;
    }
    (highest - budget.burst).max(0.0) / budget.rate
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Budget = Budget {
        rate: 10_000.0,
        burst: 100.0,
        drift: 0.0,
    };

    /// The definition, window by window.
    fn by_windows(counts: &[u32], budget: &Budget) -> f64 {
        let drain = budget.rate * (1.0 + budget.drift) / BINS_PER_SECOND;
        let mut highest = 0.0_f64;
        for first in 0..counts.len() {
            for last in first..counts.len() {
                let packets: u32 = counts[first..=last].iter().sum();
                let whole_bins_between = (last - first).saturating_sub(1) as f64;
                highest = highest.max(f64::from(packets) - drain * whole_bins_between);
            }
        }
        (highest - budget.burst).max(0.0) / budget.rate
    }

    proptest! {
        #[test]
        fn one_pass_equals_the_definition(counts in prop::collection::vec(0_u32..60, 0..60)) {
            let series = Series::new(7, counts.clone());
            let (pass, windows) = (over_admission(&series, &BUDGET), by_windows(&counts, &BUDGET));
            prop_assert!((pass - windows).abs() < 1e-9, "{pass} is not {windows}");
        }

        #[test]
        fn any_excess_is_seen(
            quiet in 0_usize..50,
            excess in 1_u32..1_000,
            spread in 1_usize..20,
        ) {
            // The whole burst at once, then the rate, then `excess` more, spread over some bins.
            let mut counts = vec![0; quiet];
            counts.push(100);
            counts.extend(vec![10; 100]);
            let end = counts.len();
            for part in 0..spread {
                let share = excess as usize / spread + usize::from(part < excess as usize % spread);
                counts[end - 1 - part] += u32::try_from(share).unwrap();
            }
            let seen = over_admission(&Series::new(0, counts), &BUDGET);
            prop_assert!(seen >= f64::from(excess) / BUDGET.rate - 1e-9, "{seen}");
        }

        #[test]
        fn a_bucket_is_never_blamed_for_more_than_two_bins(
            arrivals in prop::collection::vec(0_u32..8, 1..2_000),
        ) {
            // A perfect token bucket in front, looked at ten times a bin.
            let mut tokens = BUDGET.burst;
            let admitted: Vec<u32> = arrivals.iter().map(|&offered| {
                tokens = (tokens + 1.0).min(BUDGET.burst);
                let passed = f64::from(offered).min(tokens);
                tokens -= passed;
                passed as u32
            }).collect();
            let bins = admitted.chunks(10).map(|bin| bin.iter().sum());
            let seen = over_admission(&Series::new(0, bins.collect()), &BUDGET);
            prop_assert!(seen <= 2.0 / BINS_PER_SECOND + 1e-9, "{seen}");
        }
    }

    #[test]
    fn a_lasting_excess_is_not_hidden_by_the_burst() {
        // 1 % above the rate for 20 s is 2,000 packets more than 200,000, less the burst of 100,
        // and two bins of 10 for not knowing when.
        let counts = (0..20_000).map(|bin| if bin % 10 == 0 { 11 } else { 10 });
        let seen = over_admission(&Series::new(0, counts.collect()), &BUDGET);
        assert!((seen - 0.192).abs() < 1e-6, "{seen}");
    }

    #[test]
    fn drift_widens_the_budget() {
        let series = Series::new(0, (0..10_000).map(|_| 11).collect());
        let exact = over_admission(&series, &BUDGET);
        let drifting = over_admission(
            &series,
            &Budget {
                drift: 0.1,
                ..BUDGET
            },
        );
        assert!(exact > 0.9 && drifting < 0.0021, "{exact} {drifting}");
    }

    #[test]
    fn nothing_admitted_is_nothing_over() {
        assert!(over_admission(&Series::default(), &BUDGET).abs() < f64::EPSILON);
    }
}
