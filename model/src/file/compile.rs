//! From what a limit says to the amounts that enforce it. Pure arithmetic, no text.

use core::time::Duration;
use std::vec::Vec;

use super::{
    keyed,
    objection::{Doubt, Objection, percent_of_all},
    quantity::{Fraction, Rate},
    revision,
};
use crate::{
    amount::{Amount, Scale, Units, UnitsPerSecond},
    identity::Revision,
    policy::{Cost, Key, OnExpiry, PartsPerMillion, Promise},
};

/// Without a `burst`, this part of a second of rate.
const DEFAULT_BURST_PARTS_OF_SECOND: u128 = 10;
/// Without a `floor`, this part of the rate, over all members.
const DEFAULT_FLOORS: Fraction = Fraction {
    numerator: 1,
    denominator: 100,
};
/// Without an `excess`, an elastic limit's.
const DEFAULT_EXCESS: Fraction = Fraction {
    numerator: 10,
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
    pub(super) excess: Option<Fraction>,
    pub(super) per: Option<Key>,
    pub(super) on_expiry: Option<OnExpiry>,
    /// Zero unless `rate` counts bits.
    pub(super) overhead_bytes: u32,
    /// False unless `rate` counts connections.
    pub(super) quic: bool,
    pub(super) max_members: u32,
}

impl Terms {
    fn is_leased(&self) -> bool {
        self.promise != Promise::Local && self.per.is_none()
    }

    fn is_closed(&self) -> bool {
        self.on_expiry == Some(OnExpiry::Closed)
    }

    /// What an elastic aggregate limit's burst has more than its author wrote, in tokens.
    fn lent_tokens(&self) -> u64 {
        let per_second = u128::from(self.rate.tokens) * Duration::from_secs(1).as_nanos();
        let per_second = per_second / self.rate.period.as_nanos().max(1);
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        let excess = excess(self).filter(|_| self.per.is_none());
        excess.map_or(0, |excess| excess.of(per_second))
    }

    /// The tokens of the smallest burst.
    fn least(&self) -> u64 {
        self.rate.cost.of_largest_packet(self.overhead_bytes)
    }
}

/// The same as a data plane takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amounts {
    pub(super) scale: Scale,
    pub(super) revision: Revision,
    pub(super) budget: Amount,
    pub(super) floor: Amount,
    pub(super) smallest_burst: Units,
    pub(super) is_divisible: bool,
    pub(super) excess: Option<PartsPerMillion>,
    pub(super) on_expiry: OnExpiry,
}

/// The amounts that enforce `terms`, and doubts about them.
///
/// # Errors
///
/// Every objection at once.
pub(super) fn compile(terms: &Terms) -> Result<(Amounts, Vec<Doubt>), Vec<Objection>> {
    let cost = terms.rate.cost;
    let least = terms.least();
    let mut objections = Vec::new();

    if terms.rate.tokens == 0 {
        objections.push(Objection::RateZero);
    }
    let burst_tokens = terms
        .burst_tokens
        .unwrap_or_else(|| default_burst_tokens(terms.rate, least));
    if burst_tokens < least {
        objections.push(Objection::BurstTooSmall {
            found: burst_tokens,
            least,
            cost,
        });
    }
    let burst_tokens = burst_tokens.saturating_add(terms.lent_tokens());
    let mut is_explained = terms.rate.tokens == 0;
    if terms.per.is_some() {
        let keyed = keyed::objections(terms, burst_tokens, least);
        is_explained |= !keyed.is_empty();
        objections.extend(keyed);
    }
    let (scale, budget) = match scaled(terms.rate, burst_tokens) {
        Ok(scaled) => scaled,
        Err(objection) => {
            // A rate of zero has every other fault that a rate can have, and keys are bounded
            // more tightly.
            if !is_explained {
                objections.push(objection);
            }
            (Scale::default(), Amount::ZERO)
        }
    };
    objections.extend(promise_objection(terms));
    objections.extend(expiry_objection(terms));
    objections.extend(floor_objection(terms, burst_tokens));
    if !objections.is_empty() {
        return Err(objections);
    }

    let smallest_burst = scale.units(least).unwrap_or(Units::MAX);
    let bursts = u128::from(smallest_burst.0) * u128::from(terms.max_members);
    let is_divisible = terms.is_leased() && bursts <= u128::from(budget.burst.0);
    let floor = match (terms.per, terms.promise) {
        (Some(_), _) => keyed::amount(terms, budget),
        (None, Promise::Local) => budget,
        (None, _) if is_divisible && !terms.is_closed() => floor(terms, budget, smallest_burst),
        (None, _) => Amount::ZERO,
    };
    let amounts = Amounts {
        scale,
        revision: revision::of(terms, scale),
        budget,
        floor,
        smallest_burst,
        is_divisible,
        excess: excess(terms),
        on_expiry: terms.on_expiry.unwrap_or_default(),
    };
    Ok((amounts, doubts(terms, &amounts, burst_tokens)))
}

/// A tenth of a second of rate, and at least one largest packet.
fn default_burst_tokens(rate: Rate, least: u64) -> u64 {
    let per_second = u128::from(rate.tokens) * Duration::from_secs(1).as_nanos();
    let tokens = per_second / (rate.period.as_nanos().max(1) * DEFAULT_BURST_PARTS_OF_SECOND);
    u64::try_from(tokens).unwrap_or(u64::MAX).max(least)
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

/// `None` without the promise that it belongs to.
fn excess(terms: &Terms) -> Option<PartsPerMillion> {
    let parts = terms.excess.unwrap_or(DEFAULT_EXCESS).of(1_000_000);
    // At most a million, as a fraction is at most one.
    let parts = PartsPerMillion(u32::try_from(parts).unwrap_or(1_000_000));
    (terms.promise == Promise::Elastic).then_some(parts)
}

fn promise_objection(terms: &Terms) -> Option<Objection> {
    let is_keyed = terms.per.is_some();
    match (terms.promise, terms.excess) {
        (Promise::Elastic, Some(excess)) if excess.of(1_000_000) == 0 => {
            Some(Objection::ExcessZero)
        }
        (Promise::Strict | Promise::Local, Some(_)) => {
            Some(Objection::ExcessWithoutElastic { is_keyed })
        }
        _ => None,
    }
}

/// Only a lease expires. That a local limit falls to its floor is true, if idle.
fn expiry_objection(terms: &Terms) -> Option<Objection> {
    let on_expiry = terms.on_expiry?;
    if terms.per.is_some() {
        Some(Objection::ExpiryOfKeyed)
    } else if terms.promise == Promise::Local && on_expiry != OnExpiry::Floor {
        Some(Objection::ExpiryOfLocal)
    } else {
        None
    }
}

fn floor_objection(terms: &Terms, burst_tokens: u64) -> Option<Objection> {
    let asked = terms.floor?;
    if terms.per.is_some() {
        return Some(Objection::FloorOfKeyed);
    }
    if terms.promise == Promise::Local {
        return Some(Objection::FloorOfLocal);
    }
    if terms.is_closed() {
        return Some(Objection::FloorOfClosed);
    }
    let members = terms.max_members;
    let reserved = u128::from(asked.numerator) * u128::from(members);
    if reserved > u128::from(asked.denominator) {
        return Some(Objection::FloorsOverRate {
            members,
            percent: percent_of_all(asked, members),
        });
    }
    let least = terms.least();
    let divisible = u128::from(least) * u128::from(members) <= u128::from(burst_tokens);
    (asked.numerator > 0 && burst_tokens >= least && !divisible).then_some(
        Objection::FloorWithoutBurst {
            members,
            least,
            cost: terms.rate.cost,
        },
    )
}

/// What each member may always spend of a divisible limit: its part of the rate, and of the burst
/// at least one packet. All members' parts fit, as both are true of the whole.
fn floor(terms: &Terms, budget: Amount, smallest_burst: Units) -> Amount {
    let share = share(terms);
    Amount {
        rate: UnitsPerSecond(share.of(budget.rate.0)),
        burst: Units(share.of(budget.burst.0).max(smallest_burst.0)),
    }
}

fn doubts(terms: &Terms, amounts: &Amounts, burst_tokens: u64) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if terms.per.is_some() {
        let excess = amounts.excess.map_or(0.0, percent);
        doubts.extend(keyed::doubt(terms, amounts.scale, amounts.floor, excess));
    }
    if terms.is_leased() {
        doubts.extend(lease_doubt(terms, amounts, burst_tokens));
        doubts.extend(excess_doubt(terms));
    }
    if terms.on_expiry == Some(OnExpiry::Open) {
        doubts.push(Doubt::Open);
    }
    doubts.extend(jumbo_doubt(terms, amounts));
    doubts
}

fn lease_doubt(terms: &Terms, amounts: &Amounts, burst_tokens: u64) -> Option<Doubt> {
    let members = terms.max_members;
    if !amounts.is_divisible {
        return Some(Doubt::MovesWhole {
            burst_tokens,
            members,
            least: terms.least(),
            cost: terms.rate.cost,
        });
    }
    let share = share(terms);
    let all = u128::from(share.numerator) * u128::from(members);
    let is_much = all * u128::from(MUCH_RESERVED.denominator)
        > u128::from(share.denominator) * u128::from(MUCH_RESERVED.numerator);
    (is_much && !terms.is_closed()).then(|| Doubt::Stranded {
        members,
        percent: percent_of_all(share, members),
    })
}

/// What "elastic" comes to.
fn excess_doubt(terms: &Terms) -> Option<Doubt> {
    let excess = excess(terms)?;
    let tokens = terms.lent_tokens();
    let cost = terms.rate.cost;
    Some(if tokens < terms.least() {
        Doubt::LendsNothing { cost }
    } else {
        Doubt::Lends {
            tokens,
            percent: percent(excess),
            repaid_within_s: repaid_within_s(excess),
            cost,
        }
    })
}

fn percent(part: PartsPerMillion) -> f64 {
    f64::from(part.0) / 1e4
}

/// Each second the leader takes back twice the excess, and at most half of the rate; it may need three
/// ticks to notice.
fn repaid_within_s(excess: PartsPerMillion) -> u32 {
    let repaying = (2 * excess.0).max(500_000);
    (repaying + 300_000).div_ceil(1_000_000)
}

/// Whether jumbo frames can pass while everything is well; a host on its floor may have room for
/// less.
fn jumbo_doubt(terms: &Terms, amounts: &Amounts) -> Option<Doubt> {
    let cost = terms.rate.cost;
    let enough = cost.of_frame(Cost::JUMBO_FRAME_BYTES, terms.overhead_bytes);
    let most = match terms.per {
        Some(_) => amounts.floor.burst,
        None => amounts.budget.burst,
    };
    if most >= amounts.scale.units(enough).unwrap_or(Units::MAX) {
        return None;
    }
    let bits = most.0 >> amounts.scale.fraction_bits;
    let bursts = match terms.per {
        Some(_) => amounts.budget.burst.0 / most.0.max(1),
        None => 1,
    };
    Some(Doubt::NoJumboFrames {
        bytes: bits / 8 - u64::from(terms.overhead_bytes),
        enough: enough * bursts,
    })
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    /// A strict limit of one packet a second.
    const fn plain() -> Terms {
        Terms {
            rate: Rate {
                cost: Cost::Packets,
                tokens: 1,
                period: Duration::from_secs(1),
            },
            burst_tokens: None,
            floor: None,
            promise: Promise::Strict,
            excess: None,
            per: None,
            on_expiry: None,
            overhead_bytes: 0,
            quic: false,
            max_members: 64,
        }
    }

    fn terms() -> impl Strategy<Value = Terms> {
        (
            prop_oneof![
                Just(Cost::Packets),
                Just(Cost::Bits),
                Just(Cost::Connections)
            ],
            0_u64..1 << 42,
            prop_oneof![Just(1_u64), Just(60), Just(3_600)],
            option::of(0_u64..1 << 50),
            option::of((0_u64..=1_000, 1_000_u64..100_000)),
            option::of(Just(Key::default())),
            prop_oneof![
                Just(Promise::Strict),
                Just(Promise::Local),
                Just(Promise::Elastic)
            ],
            option::of(prop_oneof![
                Just(OnExpiry::Floor),
                Just(OnExpiry::Closed),
                Just(OnExpiry::Open)
            ]),
            0_u32..=256,
            1_u32..=4_096,
        )
            .prop_map(
                |(
                    cost,
                    tokens,
                    seconds,
                    burst_tokens,
                    floor,
                    per,
                    promise,
                    on_expiry,
                    overhead,
                    max_members,
                )| Terms {
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
                    excess: None,
                    per,
                    on_expiry,
                    overhead_bytes: if cost == Cost::Bits { overhead } else { 0 },
                    quic: false,
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
            let members = u128::from(terms.max_members);
            let splits = u128::from(smallest_burst.0) * members <= u128::from(budget.burst.0);
            prop_assert_eq!(amounts.is_divisible, terms.is_leased() && splits);
            if terms.per.is_some() {
                prop_assert!(floor != Amount::ZERO);
            } else if terms.promise != Promise::Local {
                prop_assert_eq!(
                    floor == Amount::ZERO,
                    !amounts.is_divisible || amounts.on_expiry == OnExpiry::Closed
                );
            }
            if terms.promise == Promise::Strict || terms.is_leased() {
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
                max_members: members,
                ..plain()
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
            ..plain()
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
            ..plain()
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
