//! What hosts go on holding when a policy gives a limit other units.

mod limits;

use proptest::prelude::*;
use weir_coord_core::{carry::carried, follower::Grant, rules::Rules};
use weir_model::{Amount, Cost, Limit, Nanos, Scale, Units, UnitsPerSecond, policy::Promise};

const NOW: Nanos = Nanos(5_000);
const END: Nanos = Nanos(9_000);

fn amount(rate: u64, burst: u64, scale: Scale) -> Amount {
    Amount {
        rate: UnitsPerSecond(rate << scale.fraction_bits),
        burst: Units(burst << scale.fraction_bits),
    }
}

fn limit(rate: u64, burst: u64, fraction_bits: u8) -> Limit {
    let scale = Scale { fraction_bits };
    Limit {
        scale,
        budget: amount(rate, burst, scale),
        floor: amount(1, 1, scale),
        ..limits::limit("web", rate, burst, 1, false)
    }
}

fn held(limit: &Limit, amount: Amount) -> Grant {
    Grant {
        limit: limit.id,
        amount,
        floor: limit.floor,
        expires: END,
    }
}

#[test]
fn half_of_a_limit_that_is_halved_is_left_and_all_of_one_that_is_doubled() {
    let (high, low) = (limit(12_000, 1_200, 10), limit(6_000, 600, 11));
    let third = |limit: &Limit, part| Amount {
        rate: UnitsPerSecond(limit.budget.rate.0 / part),
        burst: Units(limit.budget.burst.0 / part),
    };
    let lowered = carried(&held(&high, third(&high, 3)), &high, &low, NOW, Rules::ALL).unwrap();
    assert_eq!(lowered.amount, third(&low, 3));
    assert_eq!((lowered.floor, lowered.expires), (low.floor, END));
    let raised = carried(&held(&low, third(&low, 3)), &low, &high, NOW, Rules::ALL).unwrap();
    assert_eq!(
        raised.amount,
        third(&high, 6),
        "as much as before, in tokens"
    );
}

#[test]
fn nothing_is_left_of_what_has_ended_or_is_of_another_kind() {
    let (before, after) = (limit(12_000, 1_200, 10), limit(6_000, 600, 11));
    let lease = held(&before, before.budget);
    assert!(carried(&lease, &before, &after, NOW, Rules::ALL).is_some());
    assert_eq!(carried(&lease, &before, &after, END, Rules::ALL), None);
    let floor = Grant::floor(before.id, before.floor);
    assert_eq!(carried(&floor, &before, &after, NOW, Rules::ALL), None);
    for other in [
        Limit {
            cost: Cost::Bits,
            ..after.clone()
        },
        Limit {
            promise: Promise::Local,
            ..after.clone()
        },
        Limit {
            promise: Promise::Elastic,
            ..after
        },
    ] {
        assert_eq!(carried(&lease, &before, &other, NOW, Rules::ALL), None);
    }
}

#[test]
fn a_lease_that_is_carried_is_not_below_the_floor_beside_it() {
    let (high, low) = (limit(12_000, 1_200, 10), limit(6_000, 600, 11));
    let idle = held(&high, high.floor);
    let lowered = carried(&idle, &high, &low, NOW, Rules::ALL).unwrap();
    assert_eq!((lowered.amount, lowered.floor), (low.floor, low.floor));
    // A floor that the policy takes away is none, and the lease goes with the budget.
    let without = Limit {
        floor: Amount::ZERO,
        ..low.clone()
    };
    let lowered = carried(&idle, &high, &without, NOW, Rules::ALL).unwrap();
    assert_eq!(lowered.amount.rate.0, low.floor.rate.0 / 2);
    assert_eq!(lowered.floor, Amount::ZERO);
}

proptest! {
    /// Steps from one end of all units to the other: what a node goes on holding is never more than the
    /// book has, on the way there and on the way back.
    #[test]
    fn what_is_left_is_in_the_book_however_far_units_are_apart(
        rate in 1..=UnitsPerSecond::MAX.0,
        burst in 1..=Units::MAX.0,
        there in 0..=Scale::MAX_FRACTION_BITS,
        back in 0..=Scale::MAX_FRACTION_BITS,
    ) {
        let whole = Amount { rate: UnitsPerSecond(rate), burst: Units(burst) };
        let most = |fraction_bits| Limit {
            scale: Scale { fraction_bits },
            budget: Amount { rate: UnitsPerSecond::MAX, burst: Units::MAX },
            floor: Amount::ZERO,
            ..limit(1, 1, 0)
        };
        let [first, second, third] = [0, there, back].map(most);
        let book = [whole.rescaled_up(first.scale, second.scale)];
        let book = [book[0], book[0].rescaled_up(second.scale, third.scale)];
        let left = carried(&held(&first, whole), &first, &second, NOW, Rules::ALL).unwrap();
        prop_assert!(left.amount.fits(book[0]));
        let left = carried(&left, &second, &third, NOW, Rules::ALL).unwrap();
        prop_assert!(left.amount.fits(book[1]));
        prop_assert!(left.amount.fits(third.budget));
        // A node that has not taken up the second policy has the whole still.
        let straight = carried(&held(&first, whole), &first, &third, NOW, Rules::ALL).unwrap();
        prop_assert!(straight.amount.fits(book[1]));
    }

    /// Whatever hosts held within the old budget is, floors aside, within the new one and no more than
    /// it was.
    #[test]
    fn what_is_left_is_within_both_budgets(
        rates in (1_u64..1_000_000, 1_u64..1_000_000),
        bursts in (1_u64..100_000, 1_u64..100_000),
        bits in (0_u8..20, 0_u8..20),
        weights in prop::collection::vec(1_u64..1_000, 1..9),
    ) {
        let no_floor = |rate, burst, bits| Limit {
            floor: Amount::ZERO,
            ..limit(rate, burst, bits)
        };
        let before = no_floor(rates.0, bursts.0, bits.0);
        let after = no_floor(rates.1, bursts.1, bits.1);
        let all: u64 = weights.iter().sum();
        let mut sum = Amount::ZERO;
        for weight in weights {
            let part = |whole: u64| {
                u64::try_from(u128::from(whole) * u128::from(weight) / u128::from(all)).unwrap()
            };
            let holding = Amount {
                rate: UnitsPerSecond(part(before.budget.rate.0)),
                burst: Units(part(before.budget.burst.0)),
            };
            let left = carried(&held(&before, holding), &before, &after, NOW, Rules::ALL).unwrap().amount;
            prop_assert!(left.fits(holding.rescaled_up(before.scale, after.scale)));
            sum = Amount {
                rate: UnitsPerSecond(sum.rate.0 + left.rate.0),
                burst: Units(sum.burst.0 + left.burst.0),
            };
        }
        prop_assert!(sum.fits(after.budget), "{sum:?} of {:?}", after.budget);
    }
}
