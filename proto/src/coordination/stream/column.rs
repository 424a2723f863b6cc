//! Columns of small numbers.

use weir_model::{Amount, Units, UnitsPerSecond};

use crate::error::WireError;

/// Bits that say how many zeros an amount ends in.
const ZERO_BITS: u32 = 5;
/// Stands for the amount 0, and is more zeros than are counted.
const NOTHING: u64 = (1 << ZERO_BITS) - 1;

/// Amounts end in many zeros, since shares are rounded: a short number. `None` if there is no room
/// for it, which takes an odd amount above 2^59.
pub(crate) fn pack(amount: u64) -> Option<u64> {
    if amount == 0 {
        return Some(NOTHING);
    }
    let zeros = u64::from(amount.trailing_zeros()).min(NOTHING - 1);
    let odd = amount >> zeros;
    // What ends in more zeros than are counted is not odd; its lowest bit has to be kept.
    let (half, is_odd) = (odd >> 1, odd & 1);
    let packed = (half << 1 | (1 - is_odd)) << ZERO_BITS | zeros;
    (packed >> ZERO_BITS == (half << 1 | (1 - is_odd))).then_some(packed)
}

/// What [`pack`] was given; `None` if it was nothing.
pub(crate) fn unpack(packed: u64) -> Option<u64> {
    let zeros = packed & NOTHING;
    if zeros == NOTHING {
        return (packed == NOTHING).then_some(0);
    }
    let odd = packed >> ZERO_BITS ^ 1;
    let amount = odd << zeros;
    (amount >> zeros == odd && amount != 0).then_some(amount)
}

/// As [`pack`], rounded up to an amount that there is room for. What is above the last of those is
/// above every sum that fits a budget, and so is that one.
pub(crate) fn pack_bound(amount: u64) -> u64 {
    const STEP: u64 = 1 << ZERO_BITS;
    let round = |amount: u64| {
        amount
            .checked_next_multiple_of(STEP)
            .unwrap_or(STEP.wrapping_neg())
    };
    pack(amount)
        .or_else(|| pack(round(amount)))
        .expect("a number that ends in as many zeros as there are bits to count them has room")
}

/// An amount in two columns.
pub(crate) fn pack_amount(amount: Amount) -> Option<(u64, u64)> {
    Some((pack(amount.rate.0)?, pack(amount.burst.0)?))
}

/// And back, within the bounds of the types.
pub(crate) fn unpack_amount(
    rate: u64,
    burst: u64,
    field: &'static str,
) -> Result<Amount, WireError> {
    let misfit = || WireError::Misfit { field };
    let rate = unpack(rate).filter(|rate| *rate <= UnitsPerSecond::MAX.0);
    let burst = unpack(burst).filter(|burst| *burst <= Units::MAX.0);
    Ok(Amount {
        rate: UnitsPerSecond(rate.ok_or_else(misfit)?),
        burst: Units(burst.ok_or_else(misfit)?),
    })
}

/// A bound of what may be held, in two columns.
pub(crate) fn pack_amount_bound(bound: Amount) -> (u64, u64) {
    (pack_bound(bound.rate.0), pack_bound(bound.burst.0))
}

/// And back. It may be above every amount that can be granted: one in coarse units is larger in
/// those of a policy that has lowered the limit.
pub(crate) fn unpack_amount_bound(
    rate: u64,
    burst: u64,
    field: &'static str,
) -> Result<Amount, WireError> {
    let misfit = || WireError::Misfit { field };
    Ok(Amount {
        rate: UnitsPerSecond(unpack(rate).ok_or_else(misfit)?),
        burst: Units(unpack(burst).ok_or_else(misfit)?),
    })
}

/// Row numbers, in ascending order, as gaps: those of 0 at the end are left out.
pub(crate) fn gaps(rows: impl IntoIterator<Item = usize>) -> Vec<u32> {
    let mut column = Vec::new();
    gaps_by(&mut column, rows);
    without_end(column)
}

/// As [`gaps`], added to a column, each of them.
pub(crate) fn gaps_by(column: &mut Vec<u32>, rows: impl IntoIterator<Item = usize>) {
    let mut next = 0;
    column.extend(rows.into_iter().map(|row| {
        let gap = row - next;
        next = row + 1;
        u32::try_from(gap).expect("no message has so many rows")
    }));
}

/// The row numbers that gaps stand for, so many, and all below `end`.
pub(crate) fn rows(
    gaps: &[u32],
    count: usize,
    end: usize,
    field: &'static str,
) -> Result<Vec<usize>, WireError> {
    if gaps.len() > count || count > end {
        return Err(WireError::Misfit { field });
    }
    let mut next = 0_usize;
    let row = |gap: &u32| {
        let row = next.saturating_add(*gap as usize);
        next = row.saturating_add(1);
        (row < end).then_some(row)
    };
    let left_out = core::iter::repeat_n(&0, count - gaps.len());
    let rows: Option<Vec<usize>> = gaps.iter().chain(left_out).map(row).collect();
    rows.ok_or(WireError::Misfit { field })
}

/// A column less what is 0 at its end.
pub(crate) fn without_end<T: Default + PartialEq>(mut column: Vec<T>) -> Vec<T> {
    let zero = T::default();
    let last = column.iter().rposition(|value| *value != zero);
    column.truncate(last.map_or(0, |last| last + 1));
    column
}

/// What a column says of a row: 0 if it has been left out.
pub(crate) fn at<T: Copy + Default>(column: &[T], row: usize) -> T {
    column.get(row).copied().unwrap_or_default()
}

/// Fails unless each column has as many rows.
pub(crate) fn check_lengths(
    length: usize,
    columns: &[usize],
    field: &'static str,
) -> Result<(), WireError> {
    if columns.iter().all(|column| *column == length) {
        Ok(())
    } else {
        Err(WireError::Misfit { field })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounded_amounts_are_short() {
        // Twelve significant bits, and zeros behind them.
        for amount in [0xfff_u64 << 28, 0x801 << 5, 1 << 30] {
            assert!(pack(amount).unwrap() < 1 << 21, "{amount:x}");
        }
        assert_eq!(pack(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn amounts_come_back(odd in 0_u64..1 << 59, zeros in 0_u32..60) {
            let amount = odd << zeros & ((1 << 60) - 1);
            if let Some(packed) = pack(amount) {
                prop_assert_eq!(unpack(packed), Some(amount));
            } else {
                prop_assert!(amount >= 1 << 58);
            }
        }

        #[test]
        fn bounds_come_back_or_are_larger(amount: u64, zeros in 0_u32..64) {
            let amount = amount >> zeros;
            let bound = unpack(pack_bound(amount)).unwrap();
            prop_assert!(bound >= amount.min(u64::MAX << ZERO_BITS), "{amount:x} {bound:x}");
            prop_assert!(bound - amount.min(bound) < 1 << ZERO_BITS, "{amount:x} {bound:x}");
            prop_assert!(bound == amount || amount > 1 << 59);
        }

        #[test]
        fn nothing_else_is_an_amount(packed: u64) {
            if let Some(amount) = unpack(packed) {
                prop_assert_eq!(unpack(pack(amount).unwrap()), Some(amount));
            }
        }

        #[test]
        fn rows_come_back(chosen in prop::collection::btree_set(0_usize..500, 0..100)) {
            let chosen: Vec<usize> = chosen.into_iter().collect();
            let gaps = gaps(chosen.iter().copied());
            let count = chosen.len();
            prop_assert_eq!(rows(&gaps, count, 500, "rows"), Ok(chosen.clone()));
            if let Some(last) = chosen.last() {
                prop_assert!(rows(&gaps, count, *last, "rows").is_err());
                prop_assert!(rows(&gaps, 501, 500, "rows").is_err());
            }
        }
    }
}
