//! What a fair division is, and how far from it one was.

/// The weighted max-min fair division of `capacity` between `demands` (water-filling): nobody gets
/// more than it asks for, and no one's share per weight can be raised without lowering that of one
/// who has no more.
///
/// # Panics
///
/// If there are not as many weights as demands, or a weight is not positive.
#[must_use]
pub fn max_min(capacity: f64, demands: &[f64], weights: &[f64]) -> Vec<f64> {
    assert_eq!(demands.len(), weights.len(), "one weight for each demand");
    assert!(
        weights.iter().all(|&weight| weight > 0.0),
        "weights are positive"
    );
    let mut shares = vec![0.0; demands.len()];
    // By the water level at which each is satisfied, lowest first.
    let mut thirsty: Vec<usize> = (0..demands.len()).collect();
    thirsty.sort_by(|&a, &b| (demands[a] / weights[a]).total_cmp(&(demands[b] / weights[b])));
    let mut left = capacity;
    let mut weight_left: f64 = weights.iter().sum();
    for index in thirsty {
        let fair = left * weights[index] / weight_left;
        shares[index] = demands[index].min(fair).max(0.0);
        left -= shares[index];
        weight_left -= weights[index];
    }
    shares
}

/// Jain's index of `shares` measured against what each should be: 1 if all are equally well
/// served, 1/n if one has everything. Entries whose due is zero are left out; with no entry left
/// it is 1.
#[must_use]
pub fn jain_index(shares: &[f64], due: &[f64]) -> f64 {
    let served = || {
        let pairs = shares.iter().zip(due);
        pairs
            .filter(|&(_, &due)| due > 0.0)
            .map(|(share, due)| share / due)
    };
    let (count, sum) = (served().count() as f64, served().sum::<f64>());
    let squares: f64 = served().map(|share| share * share).sum();
    if squares > 0.0 {
        sum * sum / (count * squares)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fills_from_below() {
        type Case<'a> = (f64, &'a [f64], &'a [f64], &'a [f64]);
        let cases: [Case<'_>; 5] = [
            (30.0, &[90.0, 0.0, 0.0], &[1.0; 3], &[30.0, 0.0, 0.0]),
            (30.0, &[63.0, 18.0, 9.0], &[1.0; 3], &[10.5, 10.5, 9.0]),
            (30.0, &[5.0, 5.0], &[1.0; 2], &[5.0, 5.0]),
            (30.0, &[90.0, 90.0], &[2.0, 1.0], &[20.0, 10.0]),
            (30.0, &[], &[], &[]),
        ];
        for (capacity, demands, weights, expected) in cases {
            let shares = max_min(capacity, demands, weights);
            for (share, expected) in shares.iter().zip(expected) {
                assert!(
                    (share - expected).abs() < 1e-9,
                    "{shares:?} for {demands:?}"
                );
            }
        }
    }

    #[test]
    fn index_tells_even_from_uneven() {
        assert!((jain_index(&[2.0, 4.0], &[1.0, 2.0]) - 1.0).abs() < 1e-9);
        assert!((jain_index(&[3.0, 0.0, 0.0], &[1.0; 3]) - 1.0 / 3.0).abs() < 1e-9);
        assert!((jain_index(&[3.0, 9.0], &[3.0, 0.0]) - 1.0).abs() < 1e-9);
        assert!((jain_index(&[], &[]) - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn is_max_min(
            capacity in 0.0_f64..200.0,
            wants in prop::collection::vec((0.0_f64..100.0, 1_u8..5), 1..8),
        ) {
            let (demands, weights): (Vec<f64>, Vec<f64>) =
                wants.iter().map(|&(demand, weight)| (demand, f64::from(weight))).unzip();
            let shares = max_min(capacity, &demands, &weights);
            let given: f64 = shares.iter().sum();
            let wanted: f64 = demands.iter().sum();
            prop_assert!((given - wanted.min(capacity)).abs() < 1e-6);
            let levels = || shares.iter().zip(&weights).map(|(share, weight)| share / weight);
            let highest = levels().fold(0.0, f64::max);
            for ((share, demand), level) in shares.iter().zip(&demands).zip(levels()) {
                prop_assert!(*share <= demand + 1e-9);
                // Who did not get all that it wanted has as much per weight as anyone.
                prop_assert!(*share >= demand - 1e-6 || level >= highest - 1e-6);
            }
        }
    }
}
