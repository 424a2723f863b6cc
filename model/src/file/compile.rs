//! From what a limit says to the amounts that enforce it. Pure arithmetic, no text.

use core::time::Duration;
use std::{format, string::String, vec::Vec};

use thiserror::Error;

use super::quantity::{Fraction, Rate, counted};
use crate::{
    amount::{Amount, Scale, Units, UnitsPerSecond},
    identity::Revision,
    policy::{Cost, Promise},
};

/// Without a `burst`, this part of a second of rate.
const DEFAULT_BURST_PARTS_OF_SECOND: u128 = 10;
/// Without a `floor`, this part of the rate, over all members.
const DEFAULT_FLOORS: Fraction = Fraction {
    numerator: 1,
    denominator: 100,
};
/// The coarsest rate: below it, a floor rounded down to whole units would lose more than 1 %.
const LEAST_UNITS_PER_SECOND: u64 = 1 << 20;
/// Floors above this part of the rate leave less to share than they reserve: worth a warning.
const MUCH_RESERVED: Fraction = Fraction {
    numerator: 1,
    denominator: 2,
};

/// How much a limit admits, as its author put it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) rate: Rate,
    /// In the tokens of `rate`.
    pub(super) burst_tokens: Option<u64>,
    /// For each member.
    pub(super) floor: Option<Fraction>,
    pub(super) promise: Promise,
    pub(super) max_members: u32,
}

/// The same as a data plane takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) scale: Scale,
    pub(super) revision: Revision,
    pub(super) budget: Amount,
    pub(super) floor: Amount,
    pub(super) smallest_burst: Units,
}

/// Which key an objection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Rate,
    Burst,
    Floor,
}

/// Why terms cannot be enforced. Numbers of tokens are in the unit of `cost`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Objection {
    #[error("a rate of zero")]
    RateZero,
    #[error("the rate is above the largest, {}/s", counted(UnitsPerSecond::MAX.0, *cost))]
    RateTooLarge { cost: Cost },
    #[error("the burst is above the largest, {}", counted(Units::MAX.0, *cost))]
    BurstTooLarge { cost: Cost },
    #[error(
        "a burst of {} never admits the largest packet, {}",
        counted(*found, *cost),
        counted(cost.of_largest_packet(0), *cost)
    )]
    BurstTooSmall { found: u64, cost: Cost },
    #[error("the burst is out of proportion: the rate needs years to fill it")]
    BurstOutOfProportion,
    #[error(
        "the floors of {members} members add up to {percent} % of the rate, expected at most 100 %"
    )]
    FloorsOverRate { members: u32, percent: u64 },
    #[error(
        "the burst cannot be split between {members} members with at least {} each, so none can \
         have a floor",
        counted(cost.of_largest_packet(0), *cost)
    )]
    FloorWithoutBurst { members: u32, cost: Cost },
    #[error("a local limit has no floor: every host enforces all of it by itself")]
    FloorOfLocal,
}

impl Objection {
    pub(super) const fn key(&self) -> Key {
        match self {
            Self::RateZero | Self::RateTooLarge { .. } => Key::Rate,
            Self::BurstTooLarge { .. }
            | Self::BurstTooSmall { .. }
            | Self::BurstOutOfProportion => Key::Burst,
            Self::FloorsOverRate { .. } | Self::FloorWithoutBurst { .. } | Self::FloorOfLocal => {
                Key::Floor
            }
        }
    }

    /// What to do about it.
    pub(super) fn suggestion(&self) -> String {
        match self {
            Self::RateZero => String::from("remove the limit, or leave this to a firewall"),
            Self::RateTooLarge { .. } => String::from("lower the rate"),
            Self::BurstTooLarge { .. } | Self::BurstOutOfProportion => {
                String::from("lower the burst")
            }
            Self::BurstTooSmall { cost, .. } => format!(
                "write `burst = \"{}\"` or more",
                counted(cost.of_largest_packet(0), *cost)
            ),
            Self::FloorsOverRate { members, .. } => format!(
                "write at most \"{}%\", or lower max_members",
                percent_per_member(*members)
            ),
            Self::FloorWithoutBurst { members, cost } => format!(
                "write `burst = \"{}\"` or more, or remove the floor",
                counted(u64::from(*members) * cost.of_largest_packet(0), *cost)
            ),
            Self::FloorOfLocal => String::from("remove it"),
        }
    }
}

/// What is doubtful about terms that can be enforced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum Doubt {
    #[error(
        "a burst of {} cannot be split between {members} members with at least {} each: the limit \
         moves whole, to one host at a time, and no member has a floor",
        counted(*burst_tokens, *cost),
        counted(cost.of_largest_packet(0), *cost)
    )]
    MovesWhole {
        burst_tokens: u64,
        members: u32,
        cost: Cost,
    },
    #[error(
        "the floors of {members} members reserve {percent} % of the rate, which idle members \
         strand"
    )]
    Stranded { members: u32, percent: u64 },
}

impl Doubt {
    pub(super) const fn key(&self) -> Key {
        match self {
            Self::MovesWhole { .. } => Key::Rate,
            Self::Stranded { .. } => Key::Floor,
        }
    }
}

/// The amounts that enforce `terms`, and doubts about them.
///
/// # Errors
///
/// Every objection at once.
pub(super) fn compile(terms: &Terms) -> Result<(Amounts, Vec<Doubt>), Vec<Objection>> {
    let cost = terms.rate.cost;
    let least = cost.of_largest_packet(0);
    let mut objections = Vec::new();

    if terms.rate.tokens == 0 {
        objections.push(Objection::RateZero);
    }
    let burst_tokens = terms
        .burst_tokens
        .unwrap_or_else(|| default_burst_tokens(terms.rate));
    if burst_tokens < least {
        objections.push(Objection::BurstTooSmall {
            found: burst_tokens,
            cost,
        });
    }
    let (scale, budget) = match scaled(terms.rate, burst_tokens) {
        Ok(scaled) => scaled,
        Err(objection) => {
            // A rate of zero has every other fault that a rate can have.
            if terms.rate.tokens != 0 {
                objections.push(objection);
            }
            (Scale::default(), Amount::ZERO)
        }
    };
    objections.extend(floor_objection(terms, burst_tokens));
    if !objections.is_empty() {
        return Err(objections);
    }

    let smallest_burst = scale.units(least).unwrap_or(Units::MAX);
    let amounts = Amounts {
        scale,
        revision: revision(cost, scale, terms.promise),
        budget,
        floor: match terms.promise {
            Promise::Local => budget,
            Promise::Strict | Promise::Elastic => floor(terms, budget, smallest_burst),
        },
        smallest_burst,
    };
    Ok((amounts, doubts(terms, &amounts, burst_tokens)))
}

/// A tenth of a second of rate, and at least one largest packet.
fn default_burst_tokens(rate: Rate) -> u64 {
    let per_second = u128::from(rate.tokens) * Duration::from_secs(1).as_nanos();
    let tokens = per_second / (rate.period.as_nanos().max(1) * DEFAULT_BURST_PARTS_OF_SECOND);
    u64::try_from(tokens)
        .unwrap_or(u64::MAX)
        .max(rate.cost.of_largest_packet(0))
}

fn scaled(rate: Rate, burst_tokens: u64) -> Result<(Scale, Amount), Objection> {
    let cost = rate.cost;
    let whole = Scale::default();
    whole
        .rate(rate.tokens, rate.period)
        .ok_or(Objection::RateTooLarge { cost })?;
    whole
        .units(burst_tokens)
        .ok_or(Objection::BurstTooLarge { cost })?;
    // Both fit at whole tokens, so there is a finest scale at which they do.
    let scale = Scale::finest(rate.tokens, rate.period, burst_tokens).unwrap_or(whole);
    let budget = Amount {
        rate: scale.rate(rate.tokens, rate.period).unwrap_or_default(),
        burst: scale.units(burst_tokens).unwrap_or_default(),
    };
    if budget.rate.0 < LEAST_UNITS_PER_SECOND {
        return Err(Objection::BurstOutOfProportion);
    }
    Ok((scale, budget))
}

/// Each member's part of the rate.
fn share(terms: &Terms) -> Fraction {
    terms.floor.unwrap_or(Fraction {
        numerator: DEFAULT_FLOORS.numerator,
        denominator: DEFAULT_FLOORS.denominator * u64::from(terms.max_members),
    })
}

fn floor_objection(terms: &Terms, burst_tokens: u64) -> Option<Objection> {
    let asked = terms.floor?;
    if terms.promise == Promise::Local {
        return Some(Objection::FloorOfLocal);
    }
    let members = terms.max_members;
    let reserved = u128::from(asked.numerator) * u128::from(members);
    if reserved > u128::from(asked.denominator) {
        return Some(Objection::FloorsOverRate {
            members,
            percent: percent_of_all(asked, members),
        });
    }
    let least = terms.rate.cost.of_largest_packet(0);
    let divisible = u128::from(least) * u128::from(members) <= u128::from(burst_tokens);
    (asked.numerator > 0 && burst_tokens >= least && !divisible).then_some(
        Objection::FloorWithoutBurst {
            members,
            cost: terms.rate.cost,
        },
    )
}

/// What each member may always spend: its part of the rate, and of the burst at least one packet;
/// or nothing, if that is more burst than there is.
fn floor(terms: &Terms, budget: Amount, smallest_burst: Units) -> Amount {
    let share = share(terms);
    let burst = share.of(budget.burst.0).max(smallest_burst.0);
    let bursts = u128::from(burst) * u128::from(terms.max_members);
    if bursts > u128::from(budget.burst.0) {
        return Amount::ZERO;
    }
    Amount {
        rate: UnitsPerSecond(share.of(budget.rate.0)),
        burst: Units(burst),
    }
}

fn doubts(terms: &Terms, amounts: &Amounts, burst_tokens: u64) -> Vec<Doubt> {
    if terms.promise == Promise::Local {
        return Vec::new();
    }
    let members = terms.max_members;
    let share = share(terms);
    let mut doubts = Vec::new();
    if amounts.floor == Amount::ZERO {
        doubts.push(Doubt::MovesWhole {
            burst_tokens,
            members,
            cost: terms.rate.cost,
        });
    } else if u128::from(share.numerator)
        * u128::from(members)
        * u128::from(MUCH_RESERVED.denominator)
        > u128::from(share.denominator) * u128::from(MUCH_RESERVED.numerator)
    {
        doubts.push(Doubt::Stranded {
            members,
            percent: percent_of_all(share, members),
        });
    }
    doubts
}

/// A bucket's numbers mean something else when the token or its scale changes. A promise that
/// changes asks for a new one too: what a host may spend of a local limit, it may not of a strict.
fn revision(cost: Cost, scale: Scale, promise: Promise) -> Revision {
    let cost = match cost {
        Cost::Packets => 1,
        Cost::Bits => 2,
        Cost::Connections => 3,
    };
    let promise = match promise {
        Promise::Strict => 0,
        Promise::Local => 1,
        Promise::Elastic => 2,
    };
    Revision(promise << 16 | cost << 8 | u32::from(scale.fraction_bits))
}

fn percent_of_all(share: Fraction, members: u32) -> u64 {
    let percent = u128::from(share.numerator) * u128::from(members) * 100;
    u64::try_from(percent.div_ceil(u128::from(share.denominator))).unwrap_or(u64::MAX)
}

/// The largest percentage with four decimals that `members` can have each.
fn percent_per_member(members: u32) -> String {
    let millionths = 100 * 10_000 / u64::from(members);
    let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn terms() -> impl Strategy<Value = Terms> {
        (
            prop_oneof![Just(Cost::Packets), Just(Cost::Bits)],
            0_u64..1 << 42,
            prop_oneof![Just(1_u64), Just(60), Just(3_600)],
            option::of(0_u64..1 << 50),
            option::of((0_u64..=1_000, 1_000_u64..100_000)),
            prop_oneof![Just(Promise::Strict), Just(Promise::Local)],
            1_u32..=4_096,
        )
            .prop_map(
                |(cost, tokens, seconds, burst_tokens, floor, promise, max_members)| Terms {
                    rate: Rate {
                        cost,
                        tokens,
                        period: Duration::from_secs(seconds),
                    },
                    burst_tokens,
                    floor: floor.map(|(numerator, denominator)| Fraction {
                        numerator,
                        denominator,
                    }),
                    promise,
                    max_members,
                },
            )
    }

    proptest! {
        /// Whatever is asked for, what comes out can be enforced and keeps the two sums.
        #[test]
        fn amounts_keep_the_sums_within_the_budget(terms in terms()) {
            let Ok((amounts, _)) = compile(&terms) else { return Ok(()) };
            let Amounts { scale, budget, floor, smallest_burst, .. } = amounts;
            prop_assert!(budget.rate.0 >= LEAST_UNITS_PER_SECOND);
            prop_assert!(budget.rate <= UnitsPerSecond::MAX && budget.burst <= Units::MAX);
            prop_assert!(budget.burst >= smallest_burst);
            prop_assert!(floor == Amount::ZERO || floor.burst >= smallest_burst);
            if terms.promise == Promise::Strict {
                let members = u128::from(terms.max_members);
                prop_assert!(u128::from(floor.rate.0) * members <= u128::from(budget.rate.0));
                prop_assert!(u128::from(floor.burst.0) * members <= u128::from(budget.burst.0));
            }
            // Never upward, and within a thousandth.
            let asked = terms.rate.tokens as f64 / terms.rate.period.as_secs_f64();
            let given = scale.tokens_per_second(budget.rate);
            prop_assert!(given <= asked * (1.0 + 1e-12), "{given} of {asked}");
            prop_assert!(given >= asked * 0.999, "{given} of {asked}");
        }

        /// Every objection is about terms that would indeed break one of those sums.
        #[test]
        fn sensible_terms_meet_no_objection(
            tokens in 1_u64..1_000_000_000,
            burst_seconds in 1_u64..100,
            members in 1_u32..=4_096,
        ) {
            let terms = Terms {
                rate: Rate { cost: Cost::Packets, tokens, period: Duration::from_secs(1) },
                burst_tokens: Some(tokens * burst_seconds),
                floor: None,
                promise: Promise::Strict,
                max_members: members,
            };
            prop_assert!(compile(&terms).is_ok());
        }
    }

    #[test]
    fn the_demo_limit_is_what_the_design_says() {
        let (amounts, doubts) = compile(&Terms {
            rate: Rate {
                cost: Cost::Packets,
                tokens: 30_000,
                period: Duration::from_secs(1),
            },
            burst_tokens: None,
            floor: None,
            promise: Promise::Strict,
            max_members: 64,
        })
        .unwrap();
        let Amounts {
            scale,
            budget,
            floor,
            smallest_burst,
            ..
        } = amounts;
        assert_eq!(scale.fraction_bits, 25);
        assert_eq!(budget.rate.0, 30_000 << 25);
        assert_eq!(budget.burst.0, 3_000 << 25);
        assert_eq!(floor.rate.0, (30_000 << 25) / 6_400);
        assert_eq!(floor.burst, smallest_burst);
        assert_eq!(smallest_burst.0, 1 << 25);
        assert_eq!(doubts, []);
    }

    #[test]
    fn a_burst_too_small_to_split_moves_whole() {
        let (amounts, doubts) = compile(&Terms {
            rate: Rate {
                cost: Cost::Bits,
                tokens: 1_000_000,
                period: Duration::from_secs(1),
            },
            burst_tokens: None,
            floor: None,
            promise: Promise::Strict,
            max_members: 64,
        })
        .unwrap();
        assert_eq!(amounts.floor, Amount::ZERO);
        assert!(
            matches!(
                doubts[..],
                [Doubt::MovesWhole {
                    burst_tokens: 100_000,
                    members: 64,
                    ..
                }]
            ),
            "{doubts:?}"
        );
    }
}
