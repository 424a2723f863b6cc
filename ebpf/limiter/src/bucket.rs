//! The bucket: one position, up to which entitlement is spent.

use crate::clock::Standing;

/// How far a bucket may appear to be ahead of its clock. It never is by more than the clocks of
/// two CPUs differ; what seems to be further ahead is in truth far behind, an idle bucket whose
/// distance has wrapped. At the largest rate this is 12 days, and wrapping takes 194.
const LARGEST_LEAD: u64 = 1 << 60;

/// Where the bucket effectively stands: entitlement older than a burst has lapsed.
#[inline(always)]
#[must_use]
pub const fn level_at(level: u64, standing: Standing) -> u64 {
    let behind = standing.position.wrapping_sub(level);
    let ahead = level.wrapping_sub(standing.position);
    if behind <= standing.burst || ahead <= LARGEST_LEAD {
        level
    } else {
        standing.position.wrapping_sub(standing.burst)
    }
}

/// The bucket's new position if a packet of this cost is admitted; `None` if it is not. A cost is
/// at most 2^61 units.
#[inline(always)]
#[must_use]
pub const fn charge(level: u64, standing: Standing, cost: u64) -> Option<u64> {
    let from = level_at(level, standing);
    let left = standing.position.wrapping_sub(from);
    // With the bucket ahead of its clock, `left` has wrapped and is larger than any burst.
    if left <= standing.burst && cost <= left {
        Some(from.wrapping_add(cost))
    } else {
        None
    }
}

/// How much is missing for a packet of this cost, in units.
#[inline(always)]
#[must_use]
pub const fn shortfall(level: u64, standing: Standing, cost: u64) -> u64 {
    level_at(level, standing)
        .wrapping_add(cost)
        .wrapping_sub(standing.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDING: Standing = Standing {
        position: 1_000,
        burst: 100,
    };

    #[test]
    fn admits_up_to_the_position_and_no_further() {
        assert_eq!(charge(990, STANDING, 10), Some(1_000));
        assert_eq!(charge(990, STANDING, 11), None);
        assert_eq!(charge(1_000, STANDING, 1), None);
        assert_eq!(charge(1_001, STANDING, 1), None);
        assert_eq!(charge(1_000, STANDING, 0), Some(1_000));
    }

    #[test]
    fn what_is_missing_is_the_cost_less_what_is_left() {
        assert_eq!(shortfall(990, STANDING, 11), 1);
        assert_eq!(shortfall(1_002, STANDING, 1), 3);
        assert_eq!(shortfall(0, STANDING, 101), 1);
    }

    #[test]
    fn keeps_no_more_than_a_burst() {
        assert_eq!(level_at(0, STANDING), 900);
        assert_eq!(charge(0, STANDING, 100), Some(1_000));
        assert_eq!(charge(0, STANDING, 101), None);
    }

    #[test]
    fn wraps() {
        let wrapped = Standing {
            position: 5,
            burst: 100,
        };
        assert_eq!(charge(u64::MAX - 4, wrapped, 10), Some(5));
        assert_eq!(charge(u64::MAX - 4, wrapped, 11), None);
        assert_eq!(level_at(u64::MAX - 200, wrapped), 5_u64.wrapping_sub(100));
    }

    #[test]
    fn an_idle_bucket_whose_distance_wrapped_is_still_idle() {
        for behind in [
            1 << 62,
            1 << 63,
            (1 << 63) + (1 << 62),
            u64::MAX - (1 << 60),
        ] {
            let level = STANDING.position.wrapping_sub(behind);
            assert_eq!(charge(level, STANDING, 100), Some(1_000), "{behind}");
            assert_eq!(charge(level, STANDING, 101), None, "{behind}");
        }
    }

    #[test]
    fn a_burst_of_the_largest_size_is_not_a_wrap() {
        let largest = Standing {
            position: 0,
            burst: 1 << 60,
        };
        assert_eq!(
            charge(0_u64.wrapping_sub(1 << 60), largest, 1 << 60),
            Some(0)
        );
        assert_eq!(charge(0_u64.wrapping_sub(1 << 60), largest, 1 << 61), None);
    }
}
