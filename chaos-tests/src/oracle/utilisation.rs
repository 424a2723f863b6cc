//! How much of what could be admitted was.

use std::ops::Range;

use crate::series::{BINS_PER_SECOND, Bin, Series};

/// What a stretch of time could admit and did, in packets. Stretches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Utilised {
    /// Packets that the receiver got.
    pub admitted: f64,
    /// Packets that it could have got: Σ min(offered, budget less the floors of idle members).
    pub possible: f64,
}

impl Utilised {
    /// Admitted over possible; `None` when nothing was possible.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.possible > 0.0).then(|| self.admitted / self.possible)
    }
}

impl std::ops::AddAssign for Utilised {
    fn add_assign(&mut self, other: Self) {
        self.admitted += other.admitted;
        self.possible += other.possible;
    }
}

/// Sums windows of `window` bins (one tick) within `bins` that touch no settle interval; an
/// incomplete window at the end is left out. `usable` is R less the floors of the members that
/// are idle, in packets per second.
#[must_use]
pub fn utilisation(
    offered: &Series,
    admitted: &Series,
    usable: f64,
    bins: Range<Bin>,
    window: u64,
    settle: &[Range<Bin>],
) -> Utilised {
    let mut sum = Utilised::default();
    let mut start = bins.start;
    while start + window <= bins.end {
        let end = start + window;
        match settle
            .iter()
            .find(|interval| interval.start < end && start < interval.end)
        {
            Some(interval) => start = interval.end.max(start + 1),
            None => {
                let budget = usable * window as f64 / BINS_PER_SECOND;
                sum += Utilised {
                    admitted: admitted.sum(start..end) as f64,
                    possible: budget.min(offered.sum(start..end) as f64),
                };
                start = end;
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(packets: u32) -> Series {
        Series::new(0, vec![packets; 1_000])
    }

    fn ratio(offered: u32, admitted: u32, settle: &[Range<Bin>]) -> Option<f64> {
        utilisation(
            &steady(offered),
            &steady(admitted),
            30_000.0,
            0..1_000,
            100,
            settle,
        )
        .ratio()
    }

    #[test]
    fn compares_with_the_smaller_of_offered_and_budget() {
        assert_eq!(ratio(90, 30, &[]), Some(1.0));
        assert_eq!(ratio(90, 15, &[]), Some(0.5));
        assert_eq!(ratio(10, 10, &[]), Some(1.0));
        assert_eq!(ratio(10, 5, &[]), Some(0.5));
        assert_eq!(ratio(0, 0, &[]), None);
    }

    #[test]
    fn leaves_settle_intervals_out() {
        let mut counts = vec![30; 1_000];
        counts[300..550].fill(0);
        let admitted = Series::new(0, counts);
        let judge = |settle: Option<Range<Bin>>| {
            let settle = settle.as_slice();
            utilisation(&steady(90), &admitted, 30_000.0, 0..1_000, 100, settle)
        };
        assert_eq!(judge(None).ratio(), Some(0.75));
        assert_eq!(judge(Some(300..550)).ratio(), Some(1.0));
        assert_eq!(judge(Some(300..550)).possible, 30.0 * 700.0);
        assert_eq!(judge(Some(0..1_000)).ratio(), None);
    }
}
