//! Weighted max-min division of one budget: water-filling with floors.
//!
//! An allocation is max-min fair if no node's share can grow without shrinking that of a node
//! which has no more, weight for weight (Bertsekas and Gallager, *Data Networks*, section 6.5.2).
//! With floors and demands it is the unique level at which
//! `Σ max(floor, min(demand, weight·level)) = budget`; the level is found in a few passes over the
//! claims, in integers, rounding down.

use alloc::vec::Vec;

/// What one node asks of a budget. All rates in units per second of the same limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its weight, at least 1.
    pub weight: u32,
    /// What it could use now.
    pub demand: u64,
    /// What it has in any case.
    pub floor: u64,
}

/// Divides `budget` between `claims`, in their order. The shares add up to at most `budget`, or to
/// the floors if these alone are more.
///
/// When the demands are less than the budget, what is left is spread by weight as headroom, so
/// that a surprise finds credit waiting.
#[must_use]
pub fn divide(budget: u64, claims: &[Claim]) -> Vec<u64> {
    let wanted: u128 = claims.iter().map(|claim| u128::from(want(claim))).sum();
    match u128::from(budget).checked_sub(wanted) {
        Some(headroom) => spread(headroom, claims),
        None => fill(budget, claims),
    }
}

fn want(claim: &Claim) -> u64 {
    claim.demand.max(claim.floor)
}

fn spread(headroom: u128, claims: &[Claim]) -> Vec<u64> {
    let weights: u128 = claims.iter().map(|claim| u128::from(claim.weight)).sum();
    claims
        .iter()
        .map(|claim| {
            // At most the budget, which is a u64, so the conversion cannot fail.
            let extra = headroom * u128::from(claim.weight) / weights;
            want(claim) + u64::try_from(extra).unwrap_or(0)
        })
        .collect()
}

/// Levels are kept in 2^-20 units per second and weight, so that rounding a level down loses at
/// most a millionth of a unit for each unit of weight.
const LEVEL_FRACTION_BITS: u32 = 20;

fn fill(budget: u64, claims: &[Claim]) -> Vec<u64> {
    let level = level(budget, claims);
    claims
        .iter()
        .map(|claim| {
            let filled = (level * u128::from(claim.weight)) >> LEVEL_FRACTION_BITS;
            let filled = u64::try_from(filled).unwrap_or(u64::MAX);
            filled.min(want(claim)).max(claim.floor)
        })
        .collect()
}

/// Newton's method is left alone for so many steps; after them every other step halves the interval.
/// Four suffice but for inputs that are made to mislead it.
const NEWTON_STEPS: u32 = 8;

/// The level of the water, given that the wants exceed the budget: Newton's method on the sum of the
/// shares, which is a polygonal line in the level, within bounds.
fn level(budget: u64, claims: &[Claim]) -> u128 {
    let budget = u128::from(budget) << LEVEL_FRACTION_BITS;
    // Too low, or just right; too high.
    let mut low: u128 = 0;
    let most = claims.iter().map(want).max().unwrap_or(0);
    let mut high = (u128::from(most) << LEVEL_FRACTION_BITS) + 1;
    let lifted = |weights: u64| u128::from(weights.max(1));
    let weights = claims.iter().map(|claim| u64::from(claim.weight)).sum();
    let mut level = budget / lifted(weights);
    let mut steps = 0;
    while high - low > 1 {
        steps += 1;
        if level <= low || level >= high || (steps > NEWTON_STEPS && steps % 2 == 0) {
            level = low + (high - low) / 2;
        }
        let (fixed, slope) = line(level, claims);
        let sum = fixed + u128::from(slope) * level;
        if sum <= budget {
            low = level;
        } else {
            high = level;
        }
        if slope > 0 && sum <= budget && (budget - sum) < u128::from(slope) {
            break;
        }
        level = budget.saturating_sub(fixed) / lifted(slope);
    }
    low
}

/// The sum of the shares near a level, as a line: what is had whatever the level is, and the weight
/// that it lifts.
fn line(level: u128, claims: &[Claim]) -> (u128, u64) {
    let whole = u64::try_from(level >> LEVEL_FRACTION_BITS).unwrap_or(u64::MAX);
    let (mut fixed, mut slope) = (0_u128, 0_u64);
    for claim in claims {
        let filled = if claim.weight == 1 {
            whole
        } else {
            let filled = (level * u128::from(claim.weight)) >> LEVEL_FRACTION_BITS;
            u64::try_from(filled).unwrap_or(u64::MAX)
        };
        let (floor, want) = (claim.floor, want(claim));
        // At a whole number they are the same, but not beside it.
        if filled >= want {
            fixed += u128::from(want);
        } else if filled < floor {
            fixed += u128::from(floor);
        } else {
            slope += u64::from(claim.weight);
        }
    }
    (fixed << LEVEL_FRACTION_BITS, slope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn claim(demand: u64) -> Claim {
        Claim {
            weight: 1,
            demand,
            floor: 0,
        }
    }

    #[test]
    fn table() {
        let cases: [(u64, Vec<u64>, Vec<u64>); 5] = [
            (30, vec![90, 0, 0], vec![30, 0, 0]),
            (30, vec![63, 18, 9], vec![10, 10, 9]),
            (30, vec![50, 50, 50], vec![10, 10, 10]),
            (30, vec![3, 6, 0], vec![10, 13, 7]),
            (0, vec![3, 6], vec![0, 0]),
        ];
        for (budget, demands, shares) in cases {
            let claims: Vec<Claim> = demands.into_iter().map(claim).collect();
            assert_eq!(
                divide(budget, &claims),
                shares,
                "budget {budget}, {claims:?}"
            );
        }
    }

    #[test]
    fn weights_and_floors() {
        let claims = [
            Claim {
                weight: 3,
                demand: 100,
                floor: 0,
            },
            Claim {
                weight: 1,
                demand: 100,
                floor: 0,
            },
            Claim {
                weight: 1,
                demand: 0,
                floor: 4,
            },
        ];
        assert_eq!(divide(44, &claims), [30, 10, 4]);
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let claim =
            (1_u32..100, 0_u64..1 << 40, 0_u64..1 << 30).prop_map(|(weight, demand, floor)| {
                Claim {
                    weight,
                    demand,
                    floor,
                }
            });
        proptest::collection::vec(claim, 1..40)
    }

    proptest! {
        #[test]
        fn is_work_conserving_and_never_over(claims in claims(), budget in (1_u64 << 36)..(1 << 40)) {
            let shares = divide(budget, &claims);
            let total: u64 = shares.iter().sum();
            prop_assert!(total <= budget);
            let weights: u64 = claims.iter().map(|claim| u64::from(claim.weight)).sum();
            prop_assert!(budget - total <= weights + claims.len() as u64, "{} left", budget - total);
        }

        #[test]
        fn nobody_unsatisfied_has_less_than_a_neighbour_above_its_floor(
            claims in claims(), budget in (1_u64 << 36)..(1 << 40),
        ) {
            let shares = divide(budget, &claims);
            for (poor, poor_share) in claims.iter().zip(&shares) {
                if *poor_share >= want(poor) { continue; }
                for (rich, rich_share) in claims.iter().zip(&shares) {
                    if *rich_share <= rich.floor { continue; }
                    let poor_level = u128::from(*poor_share + 1) * u128::from(rich.weight);
                    let rich_level = u128::from(*rich_share - 1) * u128::from(poor.weight);
                    prop_assert!(rich_level <= poor_level);
                }
            }
        }
    }
}
