//! What comes out: samples, their medians, and ratios between variants. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::method::Method;

/// As much more must be offered than is received, or the generator is what was measured.
pub const OVERLOAD: f64 = 1.1;

/// One window of one variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Frames sent, in millions per second, those that found no room included.
    pub offered_mpps: f64,
    /// Frames that the receiver handled, in millions per second.
    pub mpps: f64,
    /// CPU time for each of them, in nanoseconds: the receiver's where it has a CPU of its own, the
    /// generator's included where not.
    pub ns_per_packet: f64,
}

/// The samples of one variant under the same conditions, a round each.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The variant's name.
    pub variant: String,
    /// Different sources.
    pub keys: u32,
    /// Who ran where.
    pub method: Method,
    /// 4 or 6.
    pub family: u8,
    /// Whether the receiver's caches were emptied before each burst.
    pub cold: bool,
    /// By round.
    pub samples: Vec<Sample>,
}

/// A series as it is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The variant's name.
    pub variant: String,
    /// Different sources.
    pub keys: u32,
    /// Median of [`Sample::offered_mpps`].
    pub offered_mpps: f64,
    /// Median of [`Sample::mpps`].
    pub mpps: f64,
    /// Median of [`Sample::ns_per_packet`].
    pub ns_per_packet: f64,
    /// The least and the most of [`Sample::ns_per_packet`].
    pub ns_per_packet_range: [f64; 2],
    /// Who ran where.
    pub method: Method,
    /// 4 or 6.
    pub family: u8,
    /// Whether the receiver's caches were emptied before each burst.
    pub cold: bool,
    /// Whether less than [`OVERLOAD`] was offered, so that packets per second tell of the
    /// generator. CPU time for each packet still tells of the receiver.
    pub generator_bound: bool,
    /// Windows.
    pub rounds: usize,
}

impl Series {
    /// The medians.
    #[must_use]
    pub fn row(&self) -> Row {
        let column = |of: fn(&Sample) -> f64| self.samples.iter().map(of).collect::<Vec<_>>();
        let (offered, received) = (
            median(column(|sample| sample.offered_mpps)),
            median(column(|sample| sample.mpps)),
        );
        let cost = column(|sample| sample.ns_per_packet);
        Row {
            variant: self.variant.clone(),
            keys: self.keys,
            offered_mpps: rounded(offered),
            mpps: rounded(received),
            ns_per_packet_range: [
                rounded(cost.iter().copied().fold(f64::INFINITY, f64::min)),
                rounded(cost.iter().copied().fold(0.0, f64::max)),
            ],
            ns_per_packet: rounded(median(cost)),
            method: self.method,
            family: self.family,
            cold: self.cold,
            generator_bound: offered < OVERLOAD * received,
            rounds: self.samples.len(),
        }
    }

    /// Whether it was measured under the same conditions.
    fn beside(&self, other: &Self) -> bool {
        (self.keys, self.method, self.family, self.cold)
            == (other.keys, other.method, other.family, other.cold)
    }
}

/// By number of sources: how many packets `variant` handles in the CPU time in which `other`
/// handles one. Medians of the rounds' ratios, so that what slows a round down slows both.
#[must_use]
pub fn ratios(all: &[Series], method: Method, variant: &str, other: &str) -> BTreeMap<String, f64> {
    let of = |name: &str| {
        let name = name.to_owned();
        all.iter().filter(move |series| {
            series.variant == name && series.method == method && series.family == 4 && !series.cold
        })
    };
    let mut ratios = BTreeMap::new();
    for ours in of(variant) {
        for theirs in of(other).filter(|theirs| theirs.beside(ours)) {
            let rounds = ours.samples.iter().zip(&theirs.samples);
            let ratio = median(
                rounds
                    .map(|(a, b)| b.ns_per_packet / a.ns_per_packet)
                    .collect(),
            );
            ratios.insert(ours.keys.to_string(), rounded(ratio));
        }
    }
    ratios
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// The value below which this part of all values is; NaN of nothing.
#[must_use]
pub fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1) as f64;
    let index = (last * part).ceil() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// Three digits behind the point: more is noise.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(variant: &str, keys: u32, costs: &[f64]) -> Series {
        let samples = costs.iter().map(|&ns_per_packet| Sample {
            offered_mpps: 10.0,
            mpps: 1e3 / ns_per_packet,
            ns_per_packet,
        });
        Series {
            variant: variant.to_owned(),
            keys,
            method: Method::Split,
            family: 4,
            cold: false,
            samples: samples.collect(),
        }
    }

    #[test]
    fn medians_and_quantiles() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
        assert_eq!(quantile((0..=100).map(f64::from).collect(), 0.99), 99.0);
        assert_eq!(quantile(vec![7.0], 0.99), 7.0);
    }

    #[test]
    fn a_ratio_is_that_of_the_same_round() {
        // The machine was slow in the second and third round; the ratio was two all the time.
        let all = [
            series("weir", 1, &[100.0, 300.0, 500.0]),
            series("nft", 1, &[200.0, 600.0, 1_000.0]),
            series("nft", 1_000, &[1.0]),
        ];
        let ratios = ratios(&all, Method::Split, "weir", "nft");
        assert_eq!(ratios, BTreeMap::from([("1".to_owned(), 2.0)]));
        assert!(super::ratios(&all, Method::Inline, "weir", "nft").is_empty());
    }

    #[test]
    fn a_row_says_when_the_generator_was_measured() {
        let row = series("drop", 1, &[80.0, 90.0, 100.0]).row();
        assert_eq!(row.ns_per_packet, 90.0);
        assert_eq!(row.ns_per_packet_range, [80.0, 100.0]);
        // 11.1 Mpps received of 10 offered.
        assert!(row.generator_bound);
        assert!(!series("slow", 1, &[200.0]).row().generator_bound);
    }
}
