//! What a keyed limit gives one key on one host, and what its table cannot hold.
//!
//! A key's bucket is one instant of 48 bits, in nanoseconds, that wraps: debts have to stay far
//! below the wrap, and a token must not be worth so little time that rounding shows.

use std::vec::Vec;

use super::{
    compile::Terms,
    objection::{Doubt, Objection},
};
use crate::{
    amount::{Amount, Scale, Units, UnitsPerSecond},
    policy::{Cost, Promise},
};

/// Above it a token is worth less than a microsecond.
const MOST_PER_SECOND: u64 = 1_000_000;
/// The same for bits: a thousand packets' worth of them take a millisecond.
const MOST_BITS_PER_SECOND: u64 = 10_000_000_000;
/// The longest time that a key may need to repay its burst: a quarter of the instants that 48
/// bits tell apart.
const MOST_DEBT_NANOS: u128 = 1 << 46;
const NANOS_PER_TENTH_OF_HOUR: u128 = 360_000_000_000;
/// [`MOST_DEBT_NANOS`] as messages say it.
pub(super) const MOST_DEBT: &str = "19.5 hours";

const _: () = assert!(MOST_DEBT_NANOS / NANOS_PER_TENTH_OF_HOUR == 195);

/// Why the keys of these terms, which have some, cannot be enforced.
pub(super) fn objections(terms: &Terms, burst_tokens: u64, least: u64) -> Vec<Objection> {
    let mut objections = Vec::new();
    let cost = terms.rate.cost;
    let tokens = u128::from(terms.rate.tokens);
    let period = terms.rate.period.as_nanos();
    let most = match cost {
        Cost::Packets | Cost::Connections => MOST_PER_SECOND,
        Cost::Bits => MOST_BITS_PER_SECOND,
    };
    if tokens * 1_000_000_000 > u128::from(most) * period {
        objections.push(Objection::KeyTooFast { most, cost });
    }
    // A rate of zero has every other fault that a rate can have.
    let debt = (u128::from(burst_tokens) * period).checked_div(tokens);
    if let Some(debt) = debt.filter(|debt| *debt > MOST_DEBT_NANOS) {
        let tenths = debt.div_ceil(NANOS_PER_TENTH_OF_HOUR);
        objections.push(Objection::KeyTooSlow {
            tenths_of_hours: u64::try_from(tenths).unwrap_or(u64::MAX),
        });
    }
    let covers_least = |burst: u64| burst >= least;
    if covers_least(burst_tokens) && !covers_least(burst_tokens / parts(terms)) {
        objections.push(Objection::KeyShareTooSmall {
            members: terms.max_members,
            least,
            cost,
        });
    }
    objections
}

/// What one key may spend on one host.
pub(super) fn amount(terms: &Terms, budget: Amount) -> Amount {
    let parts = parts(terms);
    Amount {
        rate: UnitsPerSecond(budget.rate.0 / parts),
        burst: Units(budget.burst.0 / parts),
    }
}

/// What the limit is divided by for one key on one host. With `strict` the hosts share one half, and
/// the other is kept for keys that turn out hot. A fleet of one has nobody to share with.
fn parts(terms: &Terms) -> u64 {
    match (terms.promise, terms.max_members) {
        (Promise::Strict, 2..) => 2 * u64::from(terms.max_members),
        _ => 1,
    }
}

/// What is easily missed about keys of `amount` each.
pub(super) fn doubt(terms: &Terms, scale: Scale, amount: Amount, percent: f64) -> Option<Doubt> {
    let members = terms.max_members;
    match terms.promise {
        Promise::Elastic if members > 1 => Some(Doubt::Unmerged { percent, members }),
        Promise::Strict if members > 1 => Some(Doubt::KeyShare {
            members,
            rate: scale.tokens_per_second(amount.rate),
            burst: scale.tokens(amount.burst),
            cost: terms.rate.cost,
        }),
        _ => None,
    }
}
