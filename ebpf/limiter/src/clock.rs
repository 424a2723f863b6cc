//! The entitlement clock: how far a limit's right to admit has come.
//!
//! Positions are in units and wrap around 2^64; they are only ever compared by their difference.

use weir_abi::Grant;

/// Rates are kept as units per nanosecond times 2^32, like the kernel's clock sources keep theirs.
const SHIFT: u32 = 32;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The multiplier of a rate in units per second, rounded down. The rate is at most 2^40, so the
/// multiplier is below 2^43, and from 233 units per second on it is exact to 0.1 %.
#[must_use]
pub const fn multiplier(units_per_second: u64) -> u64 {
    let whole = units_per_second / NANOS_PER_SECOND;
    let rest = units_per_second % NANOS_PER_SECOND;
    // The rest is below 2^30, so nothing is lost by the shift.
    (whole << SHIFT) + (rest << SHIFT) / NANOS_PER_SECOND
}

/// The units gained in `nanos` at a rate: ⌊`nanos · multiplier` / 2^32⌋ modulo 2^64, for any
/// values. In limbs, since BPF has no 128-bit multiply.
#[inline(always)]
#[must_use]
pub const fn advance(nanos: u64, multiplier: u64) -> u64 {
    const LOW: u64 = u32::MAX as u64;
    let (nanos_high, nanos_low) = (nanos >> SHIFT, nanos & LOW);
    let (rate_high, rate_low) = (multiplier >> SHIFT, multiplier & LOW);
    (nanos_high.wrapping_mul(rate_high) << SHIFT)
        .wrapping_add(nanos_high.wrapping_mul(rate_low))
        .wrapping_add(nanos_low.wrapping_mul(rate_high))
        .wrapping_add(nanos_low.wrapping_mul(rate_low) >> SHIFT)
}

/// Where a limit's clock stands at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The position of the clock, V: no more than this may be spent.
    pub position: u64,
    /// What may be kept unspent, in units: entitlement older than this far back has lapsed.
    pub burst: u64,
}

/// Where the clock of a grant stands at `now`: rule 8, *expiry*, as arithmetic.
///
/// It never goes back: a `now` before the grant began (clocks of two CPUs may differ by a little)
/// counts as its beginning. At `expires` it goes on without a step. A floor's burst that is
/// larger than the grant's starts empty there, like any burst that grows: what had lapsed at
/// that instant stays lapsed. A piece that begins after its own end keeps what was unspent then.
#[inline(always)]
#[must_use]
pub const fn standing(grant: &Grant, now: u64) -> Standing {
    let granted = now.saturating_sub(grant.t0_ns);
    if now < grant.expires_ns {
        return Standing {
            position: grant
                .v0
                .wrapping_add(advance(granted, grant.rate_multiplier)),
            burst: grant.burst,
        };
    }
    let until_end = grant.expires_ns.saturating_sub(grant.t0_ns);
    let after_end = granted - until_end;
    let since_end = advance(after_end, grant.floor_multiplier);
    // What was kept at the end, and what came since, but never more than the floor's burst.
    // After a very long time the sum is past any burst, or wraps; the burst's bound catches both.
    let at_end = if until_end == 0 {
        grant.carried_burst
    } else {
        grant.burst
    };
    let kept = match at_end.checked_add(since_end) {
        Some(kept) if after_end < WRAP_FREE_NS && kept < grant.floor_burst => kept,
        _ => grant.floor_burst,
    };
    Standing {
        position: grant
            .v0
            .wrapping_add(advance(until_end, grant.rate_multiplier))
            .wrapping_add(since_end),
        burst: kept,
    }
}

/// 97 days: for so long not even the largest rate (2^40 units a second) comes to 2^63 units.
const WRAP_FREE_NS: u64 = 97 * 24 * 3_600 * NANOS_PER_SECOND;

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;

    const MAX_RATE: u64 = 1 << 40;

    #[test]
    fn multipliers_round_down_and_are_accurate() {
        for rate in [0, 1, 233, 1_000, 999_999_999, 1_000_000_000, MAX_RATE] {
            let exact = (u128::from(rate) << 32) / 1_000_000_000;
            assert_eq!(u128::from(multiplier(rate)), exact);
        }
    }

    /// A slope must not rise at the end of the wrap-free time, whatever the rate.
    #[test]
    fn wrap_free_time_is_wrap_free() {
        let gained = (u128::from(WRAP_FREE_NS) * u128::from(multiplier(MAX_RATE))) >> 32;
        assert!(gained < 1 << 63);
    }

    proptest! {
        #[test]
        fn advance_is_the_wide_product(nanos: u64, rate: u64) {
            let wide = (u128::from(nanos) * u128::from(rate)) >> 32;
            prop_assert_eq!(advance(nanos, rate), wide as u64);
        }

        #[test]
        fn the_clock_is_continuous_and_never_goes_back(
            t0 in 0_u64..1 << 50,
            length in 0_u64..1 << 40,
            rate in 0..=MAX_RATE,
            floor in 0..=MAX_RATE,
            mut instants in prop::collection::vec(0_u64..1 << 51, 2..20),
        ) {
            let grant = Grant {
                t0_ns: t0,
                v0: u64::MAX - 5,
                expires_ns: t0 + length,
                rate_multiplier: multiplier(rate),
                floor_multiplier: multiplier(floor),
                burst: 1 << 20,
                floor_burst: 1 << 10,
                carried_burst: 0,
            };
            instants.extend([grant.expires_ns, grant.expires_ns.saturating_sub(1), t0]);
            instants.sort_unstable();
            for pair in instants.windows(2) {
                let [earlier, later] = [pair[0], pair[1]];
                let gained = standing(&grant, later)
                    .position
                    .wrapping_sub(standing(&grant, earlier).position);
                // Two pieces may each be rounded, so a unit each way.
                let most = (u128::from(later - earlier) * u128::from(multiplier(rate.max(floor)))) >> 32;
                prop_assert!(u128::from(gained) <= most + 2, "{gained} > {most}");
            }
        }
    }
}
