//! Limits for tests.

use weir_model::{
    Amount, Cost, Limit, LimitId, Revision, Scale, Units, UnitsPerSecond,
    policy::{Match, Mode, OnExpiry, Promise},
};

pub(crate) fn limit(name: &str, rate: u64, burst: u64, floor_rate: u64, whole: bool) -> Limit {
    let scale = Scale { fraction_bits: 10 };
    let amount = |rate: u64, burst: u64| Amount {
        rate: UnitsPerSecond(rate << 10),
        burst: Units(burst << 10),
    };
    Limit {
        name: name.into(),
        id: LimitId::of(name),
        revision: Revision(1),
        matches: Match::default(),
        per: None,
        cost: Cost::Packets,
        overhead_bytes: 0,
        quic: false,
        scale,
        budget: amount(rate, burst),
        floor: if whole {
            Amount::ZERO
        } else {
            amount(floor_rate, 1)
        },
        smallest_burst: Units(1 << 10),
        is_divisible: !whole,
        promise: Promise::Strict,
        excess: None,
        on_expiry: OnExpiry::Floor,
        mode: Mode::Enforce,
    }
}
