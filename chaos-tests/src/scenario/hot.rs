//! What receivers counted of sources that are limited one by one. Pure.

use std::ops::Range;

use crate::{
    oracle::{Budget, over_admission},
    series::{Bin, Series},
};

/// From the first packet of a hot source until the fleet has merged it, as `docs/limits.md` has it. Before,
/// each host gives an elastic key all of its rate.
pub(super) const MERGED_WITHIN: Bin = 1_000;
/// Part of the rate that an elastic limit may go above it, by default.
const EXCESS: f64 = 0.1;
/// A window in which a hot source should have its rate.
const WINDOW: Bin = 1_000;

/// Seconds of its budget that a source of a strict limit got too much of, in any window from the first
/// packet on; `None` if nothing of it came through.
pub(super) fn strict_excess(hot: &Series, budget: &Budget) -> Option<f64> {
    (hot.sum(hot.span()) > 0).then(|| over_admission(hot, budget))
}

/// The same for a source of an elastic limit, from when it is merged on: rate and excess, and a packet for
/// each member.
pub(super) fn elastic_excess(
    hot: &Series,
    budget: &Budget,
    members: usize,
    run: &Range<Bin>,
) -> Option<f64> {
    let merged = run.start + MERGED_WITHIN..run.end;
    let budget = Budget {
        rate: budget.rate * (1.0 + EXCESS),
        burst: budget.burst * (1.0 + EXCESS) + members as f64,
        ..*budget
    };
    strict_excess(&hot.part(&merged), &budget)
}

/// The least part of its rate that a hot source gets in any second that touches none of `settle`, from
/// when it is merged on; `None` if there is no such second.
pub(super) fn least_use(
    hot: &Series,
    rate: f64,
    run: &Range<Bin>,
    settle: &[Range<Bin>],
) -> Option<f64> {
    let starts = run.start + MERGED_WITHIN..run.end.saturating_sub(WINDOW);
    let is_calm = |start: &Bin| {
        let touches = |one: &Range<Bin>| one.start < start + WINDOW && *start < one.end;
        !settle.iter().any(touches)
    };
    let parts = starts
        .filter(is_calm)
        .map(|start| hot.rate(start..start + WINDOW) / rate);
    parts.reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        rate: 2_000.0,
        burst: 200.0,
        drift: 0.001,
    };
    const RUN: Range<Bin> = 0..10_000;

    fn steady(packets: u32) -> Series {
        Series::new(0, vec![packets; 10_000])
    }

    #[test]
    fn a_strict_source_may_have_its_rate_and_no_more() {
        assert!(strict_excess(&steady(2), &BUDGET).unwrap() <= 0.002);
        assert!(strict_excess(&steady(3), &BUDGET).unwrap() > 1.0);
        assert_eq!(
            strict_excess(&steady(0), &BUDGET),
            None,
            "nothing shows nothing"
        );
    }

    #[test]
    fn an_elastic_source_is_held_once_it_is_merged() {
        let mut counts = vec![2; 10_000];
        counts[..1_000].fill(6);
        let excess =
            |counts: Vec<u32>| elastic_excess(&Series::new(0, counts), &BUDGET, 4, &RUN).unwrap();
        assert!(excess(counts.clone()) <= 0.002);
        counts[5_000..5_500].fill(6);
        assert!(excess(counts) > 0.5, "merged and forgotten");
        // A tenth more is what it is lent; more is not.
        let tenths = |every: usize| {
            (0..10_000)
                .map(|bin| 2 + u32::from(bin % every == 0))
                .collect()
        };
        assert!(excess(tenths(5)) <= 0.002);
        assert!(excess(tenths(4)) > 0.005);
    }

    #[test]
    fn a_source_that_starves_is_found_outside_of_faults() {
        let mut counts = vec![2; 10_000];
        counts[5_000..6_000].fill(1);
        let hot = Series::new(0, counts);
        let least = |settle: Option<Range<Bin>>| least_use(&hot, 2_000.0, &RUN, settle.as_slice());
        assert_eq!(least(None), Some(0.5));
        assert_eq!(least(Some(4_800..6_100)), Some(1.0));
        assert_eq!(least(Some(0..10_000)), None);
    }
}
