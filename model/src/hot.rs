//! Keys of keyed limits that the whole fleet shares: heavy ones as nodes see them, and hot ones,
//! each of which has a budget of its own.
//!
//! A key is *hot* while the leader divides a budget for it between the hosts, as it does for an
//! aggregate limit. To everything that divides, books and grants, a hot key is a [`Limit`] with an
//! identity of its own, which [`Policy::hot_limit`] makes. What it may spend beside the buckets that
//! the key has on each host without being hot, its *cold* buckets ([`Limit::key_amount`]), is told
//! by the promise of its limit:
//!
//! - strict: hosts together have half of the limit's budget for the cold buckets of a key, whether it
//!   is hot or not; the hot key has the other half. A packet may pass by either.
//! - elastic: a hot key is judged by its grant alone, on every host. Its floors add up to the limit's
//!   excess, so that a host whose lease has ended goes on with its part of it.

use alloc::format;

use serde::{Deserialize, Serialize};

use crate::{
    amount::{Amount, Units, UnitsPerSecond},
    identity::LimitId,
    policy::{Limit, OnExpiry, Policy, Promise},
    prefix::Prefix,
};

/// Most hot keys of one limit. Beyond it the heaviest are hot; the others are as they were.
pub const MAX_HOT_KEYS_PER_LIMIT: usize = 64;
/// Most hot keys of all limits: what the kernel has room for.
pub const MAX_HOT_KEYS: usize = 256;
/// Most keys of one limit that a report names: the heaviest ones.
pub const MAX_HEAVY_KEYS_PER_LIMIT: usize = 64;
/// Most keys that a report names.
pub const MAX_HEAVY_KEYS: usize = 1_024;

const _: () = assert!(MAX_HOT_KEYS_PER_LIMIT <= MAX_HOT_KEYS);
const _: () = assert!(MAX_HEAVY_KEYS_PER_LIMIT >= MAX_HOT_KEYS_PER_LIMIT);
const _: () = assert!(MAX_HEAVY_KEYS >= MAX_HOT_KEYS);

/// A key that has a budget of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HotKey {
    /// The identity of its budget: the same for the same key and limit, whoever leads and whatever its
    /// units are.
    pub id: LimitId,
    /// The keyed limit.
    pub limit: LimitId,
    /// The source prefix, of the length that the limit's keys have.
    pub key: Prefix,
}

impl HotKey {
    /// A key of a keyed limit.
    #[must_use]
    pub fn new(limit: &Limit, key: Prefix) -> Self {
        Self {
            id: LimitId::of_key(limit.id, key),
            limit: limit.id,
            key,
        }
    }
}

/// What a node saw of one key of a keyed limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeavyKey {
    /// The keyed limit.
    pub limit: LimitId,
    /// The source prefix, of the length that the limit's keys have.
    pub key: Prefix,
    /// What arrived, in the limit's units, as it was measured: a flood has no bound.
    pub offered: UnitsPerSecond,
}

impl Limit {
    /// Whether the heavy keys of this limit are merged over a fleet with room for so many members. A
    /// host that is alone gives each key the whole budget by itself.
    #[must_use]
    pub fn merges_keys(&self, max_members: u32) -> bool {
        self.per.is_some() && self.promise != Promise::Local && max_members > 1
    }

    /// Whether a prefix is as long as this limit's keys are.
    #[must_use]
    pub fn has_key(&self, key: Prefix) -> bool {
        self.per.is_some_and(|per| {
            let length = if key.address().is_ipv4() {
                per.source_v4
            } else {
                per.source_v6
            };
            key.length() == length
        })
    }
}

impl Policy {
    /// The limit that a hot key is to whoever divides, books and grants: aggregate, of the units of
    /// the keyed limit, matching nothing. `None` for a key of a limit that the policy has not, has
    /// with keys of another length, or does not merge.
    ///
    /// Its budget is all that may ever be granted. With an elastic limit that is more than what there
    /// is to divide, the budget of the keyed limit, by the floors of all members.
    #[must_use]
    pub fn hot_limit(&self, hot: &HotKey) -> Option<Limit> {
        let members = self.fleet.max_members;
        let limit = self.limit(hot.limit)?;
        let is_known = limit.merges_keys(members)
            && limit.has_key(hot.key)
            && HotKey::new(limit, hot.key) == *hot;
        if !is_known {
            return None;
        }
        let (budget, floor) = match limit.promise {
            Promise::Strict => (half(limit.budget), Amount::ZERO),
            Promise::Elastic => with_floors(limit, members),
            Promise::Local => return None,
        };
        Some(Limit {
            name: format!("{}[{}]", limit.name, hot.key),
            id: hot.id,
            matches: crate::policy::Match::default(),
            per: None,
            budget,
            floor,
            is_divisible: true,
            on_expiry: OnExpiry::Floor,
            ..limit.clone()
        })
    }
}

/// What is left when every host has its cold share. `Limit::key_amount` rounds down too.
const fn half(budget: Amount) -> Amount {
    Amount {
        rate: UnitsPerSecond(budget.rate.0 / 2),
        burst: Units(budget.burst.0 / 2),
    }
}

/// The excess is the floors: a part of the rate, and one largest packet, for each member. All together may be
/// more than a bucket can hold; what one host is granted is not.
fn with_floors(limit: &Limit, members: u32) -> (Amount, Amount) {
    let members = u64::from(members);
    let excess = limit
        .excess
        .map_or(0, |excess| excess.of(limit.budget.rate.0));
    let floor = Amount {
        rate: UnitsPerSecond(excess / members),
        burst: limit.smallest_burst,
    };
    let floors = Amount {
        rate: UnitsPerSecond(floor.rate.0 * members),
        burst: Units(floor.burst.0.saturating_mul(members)),
    };
    let budget = limit.budget.saturating_add(floors);
    let burst = budget.burst.min(Units::MAX);
    (Amount { burst, ..budget }, floor)
}
