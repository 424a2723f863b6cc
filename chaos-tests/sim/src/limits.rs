//! The limits that every simulated fleet shares.

use weir_model::{
    Amount, Cost, Limit, LimitId, Policy, PolicyVersion, Revision, Scale, Units, UnitsPerSecond,
    policy::{FleetSettings, Match, Mode, OnExpiry, PartsPerMillion, Promise},
};

use crate::keys::with_keys;

/// Of every limit.
pub const SCALE: Scale = Scale { fraction_bits: 10 };

/// A strict limit: tokens a second, tokens of burst, tokens a second of floor.
#[must_use]
pub fn limit(name: &str, rate: u64, burst: u64, floor: Amount, is_divisible: bool) -> Limit {
    Limit {
        name: name.into(),
        id: LimitId::of(name),
        revision: Revision(1),
        matches: Match::default(),
        per: None,
        cost: Cost::Packets,
        overhead_bytes: 0,
        quic: false,
        scale: SCALE,
        budget: amount(rate, burst),
        floor,
        smallest_burst: Units(1 << SCALE.fraction_bits),
        is_divisible,
        promise: Promise::Strict,
        excess: None,
        on_expiry: OnExpiry::Floor,
        mode: Mode::Enforce,
    }
}

/// Tokens a second, and tokens.
#[must_use]
pub const fn amount(rate: u64, burst: u64) -> Amount {
    Amount {
        rate: UnitsPerSecond(rate << SCALE.fraction_bits),
        burst: Units(burst << SCALE.fraction_bits),
    }
}

/// The policies that a fleet goes through: the same limits, with other budgets, floors and units.
#[derive(Clone, Debug)]
pub struct Policies(Vec<Policy>);

/// What one policy is like, in parts of the first.
struct Chapter {
    /// Budgets, in thousandths.
    budget: u64,
    /// Floors of all members together, in thousandths of the rate.
    floors: u64,
    scale: Scale,
}

/// No scale is finer: amounts of different policies are compared in these units.
pub const FINEST: Scale = Scale { fraction_bits: 12 };

/// Up and down, more than once.
const CHAPTERS: [Chapter; 7] = [
    chapter(1_000, 10, SCALE),
    chapter(1_000, 200, SCALE),
    chapter(500, 30, SCALE),
    chapter(1_500, 0, FINEST),
    chapter(1_500, 120, FINEST),
    chapter(300, 300, FINEST),
    chapter(900, 5, SCALE),
];

const fn chapter(budget: u64, floors: u64, scale: Scale) -> Chapter {
    Chapter {
        budget,
        floors,
        scale,
    }
}

impl Policies {
    /// For so many hosts; with an elastic limit, and with limits that have keys, if there are any: with room
    /// for so many fewer, in the first policy or in all.
    #[must_use]
    pub fn new(hosts: usize, slow: bool, keys: bool, spares: usize, has_room_later: bool) -> Self {
        let narrow = if slow { (1, 2) } else { (50, 20) };
        let chapters = CHAPTERS.iter();
        let policies = chapters.map(|chapter| policy(hosts, narrow, chapter, keys));
        let with_keys = |(number, policy): (usize, Policy)| {
            let has_room = number > 0 && has_room_later;
            let places = if has_room { hosts } else { hosts - spares };
            if keys {
                with_keys(policy, hosts - spares, places)
            } else {
                policy
            }
        };
        Self(policies.enumerate().map(with_keys).collect())
    }

    /// The limits of one of them that are leased: they come first.
    #[must_use]
    pub fn leased(&self, version: PolicyVersion) -> &[Limit] {
        let limits = &self.of(version).limits;
        let count = limits.iter().filter(|limit| limit.is_leased()).count();
        &limits[..count]
    }

    /// One of them.
    #[must_use]
    pub fn of(&self, version: PolicyVersion) -> &Policy {
        &self.0[version.0 as usize - 1]
    }

    /// The last of them.
    #[must_use]
    pub fn last(&self) -> PolicyVersion {
        PolicyVersion(self.0.len() as u64)
    }

    /// The budget of one limit under a policy, in the finest units.
    #[must_use]
    pub fn budget(&self, version: PolicyVersion, limit: usize) -> Amount {
        let limit = &self.of(version).limits[limit];
        limit.budget.rescaled_up(limit.scale, FINEST)
    }
}

/// One limit with floors, one without that closes, and one that moves whole.
fn policy(hosts: usize, narrow: (u64, u64), chapter: &Chapter, keys: bool) -> Policy {
    let members = (hosts as u64 + 8).next_power_of_two();
    let wide = 1_000 * hosts as u64;
    let floor = Amount {
        rate: UnitsPerSecond((wide << SCALE.fraction_bits) * chapter.floors / 1_000 / members),
        burst: Units(if chapter.floors == 0 {
            0
        } else {
            1 << SCALE.fraction_bits
        }),
    };
    let closed = Limit {
        on_expiry: OnExpiry::Closed,
        ..limit("shut", 300 * hosts as u64, 4 * members, Amount::ZERO, true)
    };
    let mut limits = vec![
        limit("wide", wide, 20 * members, floor, true),
        closed,
        limit("narrow", narrow.0, narrow.1, Amount::ZERO, false),
    ];
    if keys {
        limits.push(elastic(hosts as u64, 4 * members, floor));
    }
    let limits = limits.into_iter().map(|limit| {
        let to = chapter.scale;
        let part = |amount: Amount| Amount {
            rate: UnitsPerSecond(amount.rate.0 * chapter.budget / 1_000),
            burst: Units(amount.burst.0 * chapter.budget.max(500) / 1_000),
        };
        let single = Amount {
            burst: limit.smallest_burst,
            ..Amount::ZERO
        };
        Limit {
            budget: part(limit.budget).rescaled_down(SCALE, to),
            floor: Amount {
                rate: part(limit.floor).rate,
                ..limit.floor
            }
            .rescaled_down(SCALE, to),
            smallest_burst: single.rescaled_up(SCALE, to).burst,
            revision: Revision(u32::from(to.fraction_bits)),
            scale: to,
            ..limit
        }
    });
    Policy {
        fleet: FleetSettings {
            max_members: u32::try_from(members).unwrap_or(u32::MAX),
            ..FleetSettings::default()
        },
        limits: limits.collect(),
    }
}

/// 1,000 tokens a second for each host, and a tenth of that once more.
fn elastic(hosts: u64, burst: u64, floor: Amount) -> Limit {
    let strict = limit("lent", 1_000 * hosts, burst + 100 * hosts, floor, true);
    Limit {
        promise: Promise::Elastic,
        excess: Some(PartsPerMillion(100_000)),
        ..strict
    }
}
