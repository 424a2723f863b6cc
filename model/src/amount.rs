//! Rates and bursts as exact integers.
//!
//! A token is what a limit counts: a packet, or a bit. Shares of a budget are rarely whole tokens
//! (1 % of "1 packet a minute" divided by 64 hosts), and floating point cannot promise that the
//! parts add up to at most the whole. So every amount of a limit is an integer number of *units*,
//! 2^-f tokens, where f is the limit's [`Scale`]. Sums are exact and rounding is always down.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of units: 2^-f tokens each, f being the limit's [`Scale`]. At most [`Units::MAX`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Units(pub u64);

impl Units {
    /// The largest burst: positions on the entitlement clock are compared by their wrapping
    /// difference, so a burst has to stay well below half of 2^64.
    pub const MAX: Self = Self(1 << 60);
}

/// Units per second. At most [`UnitsPerSecond::MAX`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnitsPerSecond(pub u64);

impl UnitsPerSecond {
    /// The largest rate: at 2^40 units a second the entitlement clock needs 97 days for the half
    /// turn after which a comparison would change sign.
    pub const MAX: Self = Self(1 << 40);
}

/// The fraction bits of a limit: one token is 2^`fraction_bits` units.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Scale {
    /// 0 to [`Scale::MAX_FRACTION_BITS`].
    pub fraction_bits: u8,
}

impl Scale {
    /// More would leave no room for a token's integer part beside it.
    pub const MAX_FRACTION_BITS: u8 = 46;

    /// The finest scale at which `tokens` in each `period`, and a burst of `burst_tokens`, still
    /// fit their bounds. `None` if they do not fit even at whole tokens.
    #[must_use]
    pub fn finest(tokens: u64, period: Duration, burst_tokens: u64) -> Option<Self> {
        (0..=Self::MAX_FRACTION_BITS)
            .rev()
            .map(|fraction_bits| Self { fraction_bits })
            .find(|scale| {
                scale.rate(tokens, period).is_some() && scale.units(burst_tokens).is_some()
            })
    }

    /// `tokens` in each `period` as units per second, rounded down; `None` above
    /// [`UnitsPerSecond::MAX`] or for an empty period.
    #[must_use]
    pub fn rate(self, tokens: u64, period: Duration) -> Option<UnitsPerSecond> {
        let units = u128::from(tokens) << self.fraction_bits;
        let per_second = (units * 1_000_000_000).checked_div(period.as_nanos())?;
        let per_second = u64::try_from(per_second).ok()?;
        (per_second <= UnitsPerSecond::MAX.0).then_some(UnitsPerSecond(per_second))
    }

    /// Whole tokens as units; `None` above [`Units::MAX`].
    #[must_use]
    pub fn units(self, tokens: u64) -> Option<Units> {
        let units = u128::from(tokens) << self.fraction_bits;
        (units <= u128::from(Units::MAX.0)).then_some(Units(units as u64))
    }

    /// Tokens per second, for people: graphs, tables, metrics. Never for a decision.
    #[must_use]
    pub fn tokens_per_second(self, rate: UnitsPerSecond) -> f64 {
        rate.0 as f64 / (1_u64 << self.fraction_bits) as f64
    }

    /// Tokens, for people: graphs, tables, metrics. Never for a decision.
    #[must_use]
    pub fn tokens(self, units: Units) -> f64 {
        units.0 as f64 / (1_u64 << self.fraction_bits) as f64
    }
}

/// How much: a rate and a burst, in the units of one limit.
///
/// Budget, grant, floor and envelope are all amounts. The two components are independent: an
/// envelope is the component-wise maximum of what a node may hold, so its rate and its burst may
/// come from different grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Amount {
    /// Entitlement that accrues each second.
    pub rate: UnitsPerSecond,
    /// Entitlement that may be kept for later.
    pub burst: Units,
}

impl Amount {
    /// Nothing at all.
    pub const ZERO: Self = Self {
        rate: UnitsPerSecond(0),
        burst: Units(0),
    };

    /// The larger of each component.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            rate: self.rate.max(other.rate),
            burst: self.burst.max(other.burst),
        }
    }

    /// The smaller of each component.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self {
            rate: self.rate.min(other.rate),
            burst: self.burst.min(other.burst),
        }
    }

    /// Whether both components are at most those of `other`.
    #[must_use]
    pub fn fits(self, other: Self) -> bool {
        self.rate <= other.rate && self.burst <= other.burst
    }

    /// The sum of each component, saturating (a sum that saturates fits no budget).
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            rate: UnitsPerSecond(self.rate.0.saturating_add(other.rate.0)),
            burst: Units(self.burst.0.saturating_add(other.burst.0)),
        }
    }

    /// From here on a bound is no number any more: it was too much for some units, and in no others
    /// would it be known how much it was. Eight times what any amount can be, so that what was is
    /// never taken for what is; and below what a bound is rounded to on the wire.
    const IMMEASURABLE: u64 = 1 << 63;

    /// The same amount in other units, rounded up: for bounds, which must not become too small. What
    /// is 2⁶³ or more in units of either kind is `u64::MAX`, and stays so: a
    /// policy may make a limit ten million times smaller, and the next one take that back, while
    /// somebody holds what the first one gave. Without that, the second step would take the most that
    /// there was room for in between for what is held.
    #[must_use]
    pub fn rescaled_up(self, from: Scale, to: Scale) -> Self {
        self.each(|units| {
            let other = (u128::from(units) << to.fraction_bits).div_ceil(1 << from.fraction_bits);
            let is_measurable = |units: &u64| *units < Self::IMMEASURABLE;
            let other = u64::try_from(other).ok().filter(is_measurable);
            other.filter(|_| is_measurable(&units)).unwrap_or(u64::MAX)
        })
    }

    /// The same amount in other units, rounded down, saturating: for what may be spent.
    #[must_use]
    pub fn rescaled_down(self, from: Scale, to: Scale) -> Self {
        self.each(|units| {
            let fine = (u128::from(units) << to.fraction_bits) >> from.fraction_bits;
            u64::try_from(fine).unwrap_or(u64::MAX)
        })
    }

    fn each(self, convert: impl Fn(u64) -> u64) -> Self {
        Self {
            rate: UnitsPerSecond(convert(self.rate.0)),
            burst: Units(convert(self.burst.0)),
        }
    }

    /// What is left of each component, zero where `other` is larger.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            rate: UnitsPerSecond(self.rate.0.saturating_sub(other.rate.0)),
            burst: Units(self.burst.0.saturating_sub(other.burst.0)),
        }
    }
}

const _: () = assert!(UnitsPerSecond::MAX.0 < Amount::IMMEASURABLE >> 2);
const _: () = assert!(Units::MAX.0 < Amount::IMMEASURABLE >> 2);

impl core::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}
