//! What is left of a lease when another policy gives its limit other units.
//!
//! The bucket of a limit is a new one when its units are others, and holds nothing. Without what is left
//! here every host would be on its floor until the next commit, each time that a rate is halved.
//!
//! It is safe, as the leader's book covers it already: what a node may hold of a limit stays there, in
//! the new units and [rounded up](Amount::rescaled_up), until the node acknowledges less or its lease is
//! over, for nobody knows when a node takes up a policy. What does not fit the new units is there as more
//! than any budget, in whatever units come after, so that nothing can be given away of it. What is left is no more than was held, rounded down, and ends
//! when that would have. And it is no larger a part of the new budget than it was of the old one, so
//! that hosts which have taken up a lowered limit keep to it from that moment.
//!
//! Floors are the exception to that last part. A lease is never below the floor that goes with it, or its end
//! would raise what a node spends. So what is left is at least the floor that the node had, in the new
//! units, or the new policy's floor if that is smaller: it may be spent with no lease at all, and the book
//! has it for as long as the node has not acknowledged giving it up. Hosts together keep to a lowered
//! limit all the same once its floors are what they go by, as those of all members fit any budget.

use weir_model::{Amount, Limit, Nanos, Units, UnitsPerSecond};

use crate::{
    follower::Grant,
    rules::{Mutation, Rules},
};

/// What a node goes on holding of a limit for as long as its lease lasts, if only the limit's units and
/// amounts are others now. Nothing of what has ended, nor of a floor.
#[must_use]
pub fn carried(
    held: &Grant,
    before: &Limit,
    after: &Limit,
    now: Nanos,
    rules: Rules,
) -> Option<Grant> {
    let is_same = before.id == after.id
        && before.cost == after.cost
        && before.promise == after.promise
        && before.overhead_bytes == after.overhead_bytes
        && before.quic == after.quic
        && before.is_leased()
        && after.is_leased();
    if !is_same || now >= held.expires || held.expires == Nanos::NEVER {
        return None;
    }
    if rules.breaks(Mutation::CarriedAsNumbers) {
        return Some(*held);
    }
    let in_new_units = |amount: Amount| amount.rescaled_down(before.scale, after.scale);
    let floor = in_new_units(held.floor).min(after.floor);
    let amount = Amount {
        rate: UnitsPerSecond(part(
            held.amount.rate.0,
            before.budget.rate.0,
            after.budget.rate.0,
        )),
        burst: Units(part(
            held.amount.burst.0,
            before.budget.burst.0,
            after.budget.burst.0,
        )),
    };
    Some(Grant {
        limit: after.id,
        amount: amount.min(in_new_units(held.amount)).max(floor),
        floor,
        expires: held.expires,
    })
}

/// What a node keeps of a hot key with the same units, if its floor was larger than the floor that another
/// policy gives it: a policy with room for more members gives each a smaller part of the excess of an
/// elastic limit, and whoever leads reckons with that part for every member, whatever voters remember.
#[must_use]
pub fn lowered(held: &Grant, after: &Limit, now: Nanos) -> Option<Grant> {
    let floor = held.floor.min(after.floor);
    let is_leased = now < held.expires && held.expires != Nanos::NEVER;
    (floor != held.floor).then_some(if is_leased {
        Grant { floor, ..*held }
    } else {
        Grant::floor(held.limit, floor)
    })
}

/// As much of the new budget as was held of the old one, rounded down.
fn part(held: u64, before: u64, after: u64) -> u64 {
    let part = u128::from(held.min(before)) * u128::from(after) / u128::from(before.max(1));
    u64::try_from(part).expect("no more than the new budget")
}
