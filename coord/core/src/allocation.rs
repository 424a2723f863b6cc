//! From demands to the next proposal of one limit: targets, hysteresis, and the steps that the
//! book has room for.

use alloc::vec::Vec;

use weir_model::{Amount, Limit, Units, UnitsPerSecond};

use crate::{
    book::{Entry, Holding, Pool},
    share::{Claim, divide},
};

/// Shares stay as they are while the new optimum is within this part of the budget, for every node
/// and all together: moving budget costs a commit, and nobody notices 0.4 %.
const HYSTERESIS_DIVISOR: u64 = 256;

/// The difference in a rate of this limit that is left alone, in units per second.
#[must_use]
pub const fn tolerance(limit: &Limit) -> u64 {
    limit.budget.rate.0 / HYSTERESIS_DIVISOR
}

/// A member that takes part in this round.
#[derive(Clone, Copy, Debug)]
pub struct Participant<'b> {
    /// Its weight, at least 1.
    pub weight: u32,
    /// What it could use.
    pub demand: UnitsPerSecond,
    /// The floor that the roster reserves for it: no proposal has a larger one.
    pub reserved: Amount,
    /// What it may hold, by the book.
    pub holding: &'b Holding,
}

/// What each participant should hold of `limit`, floors included, if all may have `budget`, and
/// given what absent nodes keep.
#[must_use]
pub fn targets(
    limit: &Limit,
    budget: Amount,
    participants: &[Participant<'_>],
    pool: Pool,
) -> Vec<Amount> {
    let present: Amount = participants
        .iter()
        .map(|participant| participant.holding.envelope)
        .sum();
    let absent = pool.total.saturating_sub(present);
    let budget = budget.saturating_sub(absent);
    if limit.is_divisible && !is_crowded(limit, budget, participants.len()) {
        divided(limit, budget, participants, pool)
    } else {
        whole(limit, budget, participants)
    }
}

/// Whether there is not burst enough for a packet on every host after all. Where floors are reserved
/// there is; without, more hosts than the policy reckons with may have joined, or absent ones may
/// keep much.
fn is_crowded(limit: &Limit, budget: Amount, members: usize) -> bool {
    let least = limit.smallest_burst.0.saturating_mul(members as u64);
    limit.floor == Amount::ZERO && least > budget.burst.0
}

fn divided(
    limit: &Limit,
    budget: Amount,
    participants: &[Participant<'_>],
    pool: Pool,
) -> Vec<Amount> {
    let claims: Vec<Claim> = participants
        .iter()
        .map(|participant| Claim {
            weight: participant.weight.max(1),
            demand: rounded_up(participant.demand.0, budget.rate.0),
            floor: limit.floor.rate.0,
        })
        .collect();
    let mut rates = divide(budget.rate.0, &claims);
    round(limit, budget, &mut rates);
    let mut targets = with_bursts(limit, budget, &rates);
    if is_settled(limit, budget, participants, &targets, pool) {
        participants
            .iter()
            .map(|participant| participant.holding.latest.amount)
            .collect()
    } else {
        keep_what_is_close(budget, participants, pool, &mut targets);
        targets
    }
}

/// A share has so many significant bits, and is off by less than 0.4 %: two bytes of a message.
const SIGNIFICANT_BITS: u32 = 9;
/// But no share is off by more than this part of the budget, as a power of two.
const LARGEST_LOSS_BITS: u32 = 13;

fn insignificant_bits(amount: u64, budget: u64) -> u32 {
    let own = (u64::BITS - amount.leading_zeros()).saturating_sub(SIGNIFICANT_BITS);
    let most = (u64::BITS - budget.leading_zeros()).saturating_sub(LARGEST_LOSS_BITS);
    own.min(most)
}

/// A number of few significant bits, rounded down.
fn rounded(amount: u64, budget: u64) -> u64 {
    let bits = insignificant_bits(amount, budget);
    amount >> bits << bits
}

/// And rounded up: a share that is a little less than what is wanted would have its node drop, and
/// want more.
fn rounded_up(demand: u64, budget: u64) -> u64 {
    let bits = insignificant_bits(demand, budget);
    let below = demand >> bits << bits;
    if below == demand {
        demand
    } else {
        below.saturating_add(1 << bits)
    }
}

/// What is lost by rounding goes to the largest share, as far as it is little beside that.
const ROUNDING_DIVISOR: u64 = 16;

/// Shares are short numbers. None is below its floor.
fn round(limit: &Limit, budget: Amount, rates: &mut [u64]) {
    let (budget, floor) = (budget.rate.0, limit.floor.rate.0);
    let mut lost = 0;
    for rate in &mut *rates {
        let short = rounded(*rate, budget).max(floor.min(*rate));
        lost += *rate - short;
        *rate = short;
    }
    if let Some(largest) = rates.iter_mut().max() {
        let more = lost.min(*largest / ROUNDING_DIVISOR);
        *largest = rounded(*largest + more, budget).max(*largest);
    }
}

/// A share that is as close as rounding is left as it is, so that little has to be said when a few
/// others move: the next step gives the others no more than there is. Where all that is held is more
/// than there is, since somebody joins or the limit was lowered, nobody keeps what is too much:
/// however little it is, nothing else will give it back.
fn keep_what_is_close(
    budget: Amount,
    participants: &[Participant<'_>],
    pool: Pool,
    targets: &mut [Amount],
) {
    let is_close =
        |one: u64, other: u64| one.abs_diff(other) <= one.max(other) >> (SIGNIFICANT_BITS - 1);
    let held_if_close = |participant: &Participant<'_>, target: &Amount| {
        let held = participant.holding.latest.amount;
        let is_close =
            is_close(held.rate.0, target.rate.0) && is_close(held.burst.0, target.burst.0);
        is_close.then_some(held)
    };
    let kept: Amount = participants
        .iter()
        .zip(&*targets)
        .map(|(participant, target)| held_if_close(participant, target).unwrap_or(*target))
        .sum();
    let has_room = kept.fits(budget) && !pool.is_over_budget;
    for (participant, target) in participants.iter().zip(targets) {
        let held = held_if_close(participant, target);
        if let Some(held) = held.filter(|held| has_room || held.fits(*target)) {
            *target = held;
        }
    }
}

/// Bursts follow rates: each member's floor burst, and the rest in proportion. A limit without
/// floors has to leave every member room for a packet too, or a small rate could never be used.
fn with_bursts(limit: &Limit, budget: Amount, rates: &[u64]) -> Vec<Amount> {
    let base = limit.floor.burst.0.max(limit.smallest_burst.0);
    let bases = base.saturating_mul(rates.len() as u64);
    let rest = u128::from(budget.burst.0.saturating_sub(bases));
    let total: u128 = rates.iter().copied().map(u128::from).sum();
    // One division for all: a rate is at most the total, so no product is larger than the rest is,
    // shifted; and the shift leaves no more than a unit to rounding.
    let shift = rest.leading_zeros().saturating_sub(1);
    let per_unit = (rest << shift).checked_div(total).unwrap_or(0);
    rates
        .iter()
        .map(|rate| {
            let part = (per_unit * u128::from(*rate)) >> shift;
            // A part of a u64, so the conversion cannot fail.
            let part = u64::try_from(part).unwrap_or(0);
            let burst = rounded(base + part, budget.burst.0).max(base);
            Amount {
                rate: UnitsPerSecond(*rate),
                burst: Units(burst),
            }
        })
        .collect()
}

/// Whether what was proposed last is as good as the new targets.
fn is_settled(
    limit: &Limit,
    budget: Amount,
    participants: &[Participant<'_>],
    targets: &[Amount],
    pool: Pool,
) -> bool {
    if pool.is_over_budget {
        return false;
    }
    let tolerance = tolerance(limit);
    // Many small differences are as much as a large one.
    let mut moved = 0_u64;
    // A budget that was lowered, or has to make room for a newcomer, is less than what is held.
    let mut all_held = Amount::ZERO;
    for (participant, target) in participants.iter().zip(targets) {
        let held = participant.holding.latest.amount;
        let is_close = held.rate.0.abs_diff(target.rate.0) <= tolerance
            && (held.burst >= limit.smallest_burst || held.burst >= target.burst);
        moved = moved.saturating_add(target.rate.0.saturating_sub(held.rate.0));
        all_held = all_held.saturating_add(held);
        if !is_close || moved > tolerance {
            return false;
        }
    }
    all_held.fits(budget)
}

/// A host keeps a limit that moves whole while its demand is at least this part of the largest:
/// less than that, and most of the traffic waits elsewhere for a trickle.
const KEEPING_DIVISOR: u64 = 4;

/// All of it for one node: the one that holds it while it has much use for it, else the hungriest.
fn whole(limit: &Limit, budget: Amount, participants: &[Participant<'_>]) -> Vec<Amount> {
    let by_demand = |index: &usize| (participants[*index].demand, core::cmp::Reverse(*index));
    let hungriest = (0..participants.len()).max_by_key(by_demand);
    let enough = hungriest.map_or(0, |index| participants[index].demand.0 / KEEPING_DIVISOR);
    let keeps = participants.iter().position(|participant| {
        participant.demand.0 > 0
            && participant.demand.0 >= enough
            && participant.holding.latest.amount.burst >= limit.smallest_burst
    });
    let holder = keeps.or(hungriest);
    (0..participants.len())
        .map(|index| {
            if Some(index) == holder {
                budget
            } else {
                Amount::ZERO
            }
        })
        .collect()
}

/// What a bucket can hold. There may be more to divide: the excess of a hot key comes on top of a rate for
/// which units are as fine as they can be.
const MOST: Amount = Amount {
    rate: UnitsPerSecond::MAX,
    burst: Units::MAX,
};

/// One step toward `targets` that the book allows now: shrink whoever has too much, and grow the
/// others into what nobody may be using. Keeps `Σ envelopes ≤ budget` where it held before.
pub fn step<'a>(
    limit: &'a Limit,
    participants: &'a [Participant<'a>],
    targets: &'a [Amount],
    pool: Pool,
) -> impl Iterator<Item = Entry> + 'a {
    let mut free = pool.free;
    participants
        .iter()
        .zip(targets)
        .map(move |(participant, target)| {
            let before = participant.holding.envelope;
            // Up to its own envelope a node grows without asking anybody.
            let reachable = before.saturating_add(free);
            // A new policy may have raised it, and the roster has not followed yet.
            let floor = limit.floor.min(participant.reserved);
            let floor = if floor.fits(reachable) {
                floor
            } else {
                floor.min(participant.holding.floor)
            };
            let amount = usable(limit, target.min(reachable).min(MOST), floor);
            free = free.saturating_sub(amount.max(floor).saturating_sub(before));
            Entry { amount, floor }
        })
}

/// A burst that no packet fits in is no grant at all: it would only strand the rate.
fn usable(limit: &Limit, amount: Amount, floor: Amount) -> Amount {
    if amount.burst < limit.smallest_burst {
        floor
    } else {
        amount
    }
}
