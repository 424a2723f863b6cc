//! The limits that every simulated fleet shares.

use weir_model::{
    Amount, Cost, Limit, LimitId, Policy, PolicyVersion, Revision, Scale, Units, UnitsPerSecond,
    policy::{FleetSettings, Match, Mode, OnExpiry, Promise},
};

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

/// The policies that a fleet goes through: the same limits, with other floors.
#[derive(Clone, Debug)]
pub struct Policies(Vec<Policy>);

/// Floors, in thousandths of the rate, all members together: up and down, more than once.
const FLOORS_PER_MILLE: [u64; 6] = [10, 200, 30, 0, 120, 5];

impl Policies {
    /// For so many hosts.
    #[must_use]
    pub fn new(hosts: usize) -> Self {
        Self(FLOORS_PER_MILLE.map(|floors| policy(hosts, floors)).into())
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
}

/// One limit with floors, one without that closes, and one that moves whole.
fn policy(hosts: usize, floors_per_mille: u64) -> Policy {
    let members = (hosts as u64 + 8).next_power_of_two();
    let wide = 1_000 * hosts as u64;
    let floor = Amount {
        rate: UnitsPerSecond((wide << SCALE.fraction_bits) * floors_per_mille / 1_000 / members),
        burst: Units(if floors_per_mille == 0 { 0 } else { 1 << SCALE.fraction_bits }),
    };
    let closed = Limit {
        on_expiry: OnExpiry::Closed,
        ..limit("shut", 300 * hosts as u64, 4 * members, Amount::ZERO, true)
    };
    Policy {
        fleet: FleetSettings {
            max_members: u32::try_from(members).unwrap_or(u32::MAX),
            ..FleetSettings::default()
        },
        limits: vec![
            limit("wide", wide, 20 * members, floor, true),
            closed,
            limit("narrow", 50, 20, Amount::ZERO, false),
        ]
        .into(),
    }
}
