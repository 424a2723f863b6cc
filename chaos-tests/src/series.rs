//! Packets over time, in bins of one millisecond.

use std::ops::Range;

/// The number of a millisecond since boot, on the clock that suspends do not stop.
pub type Bin = u64;

/// Bins of one second.
pub const BINS_PER_SECOND: f64 = 1_000.0;

/// Packets for each bin of one stretch of time; zero outside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    first: Bin,
    counts: Vec<u32>,
}

impl Series {
    /// A series that begins with `counts` at bin `first`.
    #[must_use]
    pub const fn new(first: Bin, counts: Vec<u32>) -> Self {
        Self { first, counts }
    }

    /// Adds packets to a bin. The first bin that is added fixes the beginning of the series;
    /// an earlier one is ignored, and `false` is returned.
    pub fn add(&mut self, bin: Bin, packets: u32) -> bool {
        if self.counts.is_empty() {
            self.first = bin;
        }
        let Some(index) = bin.checked_sub(self.first) else {
            return false;
        };
        let index = usize::try_from(index).expect("a series covers less than the address space");
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = self.counts[index].saturating_add(packets);
        true
    }

    /// The bins that it covers.
    #[must_use]
    pub fn span(&self) -> Range<Bin> {
        self.first..self.first + self.counts.len() as u64
    }

    /// Packets in one bin.
    #[must_use]
    pub fn at(&self, bin: Bin) -> u32 {
        bin.checked_sub(self.first)
            .and_then(|index| self.counts.get(usize::try_from(index).ok()?))
            .copied()
            .unwrap_or(0)
    }

    /// Packets in all bins of a range.
    #[must_use]
    pub fn sum(&self, bins: Range<Bin>) -> u64 {
        let span = self.span();
        let bins = bins.start.max(span.start)..bins.end.min(span.end);
        bins.map(|bin| u64::from(self.at(bin))).sum()
    }

    /// The bins of a range, as a series of their own.
    #[must_use]
    pub fn part(&self, bins: &Range<Bin>) -> Self {
        Self::new(bins.start, bins.clone().map(|bin| self.at(bin)).collect())
    }

    /// Mean rate over a range, in packets per second.
    #[must_use]
    pub fn rate(&self, bins: Range<Bin>) -> f64 {
        let length = bins.end.saturating_sub(bins.start).max(1);
        self.sum(bins) as f64 * BINS_PER_SECOND / length as f64
    }

    /// The sum of several series, bin by bin.
    #[must_use]
    pub fn total<'a>(all: impl IntoIterator<Item = &'a Self> + Clone) -> Self {
        let spans = || {
            let filled = all.clone().into_iter();
            filled
                .filter(|series| !series.counts.is_empty())
                .map(Self::span)
        };
        let Some(first) = spans().map(|span| span.start).min() else {
            return Self::default();
        };
        let end = spans().map(|span| span.end).max().unwrap_or(first);
        let sum_at = |bin| all.clone().into_iter().map(|series| series.at(bin)).sum();
        Self::new(first, (first..end).map(sum_at).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_and_sums() {
        let mut series = Series::default();
        assert!(series.add(100, 2));
        assert!(series.add(103, 1));
        assert!(series.add(103, 1));
        assert!(!series.add(99, 7));
        assert_eq!(series.span(), 100..104);
        assert_eq!(series.sum(0..1_000), 4);
        assert_eq!(series.sum(101..103), 0);
        assert_eq!(series.at(99), 0);
        assert!((series.rate(100..104) - 1_000.0).abs() < 1e-9);
        assert_eq!(series.part(&(99..102)), Series::new(99, vec![0, 2, 0]));
    }

    #[test]
    fn totals_series_of_different_spans() {
        let a = Series::new(10, vec![1, 2]);
        let b = Series::new(11, vec![5, 0, 3]);
        let empty = Series::default();
        assert_eq!(
            Series::total([&a, &b, &empty]),
            Series::new(10, vec![1, 7, 0, 3])
        );
        assert_eq!(Series::total([&empty]), Series::default());
    }
}
