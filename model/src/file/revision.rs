//! The number that says what a bucket's contents mean.

use super::compile::Terms;
use crate::{
    amount::Scale,
    identity::Revision,
    policy::{Cost, Key, Limit, Promise},
};

/// Where each part of the number begins. These places, and the codes in them, are fixed for ever:
/// buckets outlive the daemon, and one that reads the same number has to mean the same.
const COST_SHIFT: u32 = 6;
const PROMISE_SHIFT: u32 = 16;
const PER_SHIFT: u32 = 18;

/// The cost's codes without overhead; with overhead they follow on.
const PACKETS: u32 = 4;
const BITS: u32 = 8;
const CONNECTIONS: u32 = 12;
const CONNECTIONS_WITH_QUIC: u32 = 16;

const _: () = {
    assert!(Scale::MAX_FRACTION_BITS < 1 << COST_SHIFT);
    let largest_cost = CONNECTIONS_WITH_QUIC + Limit::MOST_OVERHEAD_BYTES;
    assert!(largest_cost < 1 << (PROMISE_SHIFT - COST_SHIFT));
    assert!(32 * 128 < 1 << (u32::BITS - PER_SHIFT));
};

/// A bucket's numbers mean something else when the token or its scale changes. A promise that
/// changes asks for a new one too: what a host may spend of a local limit, it may not of a strict.
/// So do keys that change: a key's debt is not another's.
pub(super) fn of(terms: &Terms, scale: Scale) -> Revision {
    let cost = match (terms.rate.cost, terms.overhead_bytes, terms.quic) {
        (Cost::Packets, ..) => PACKETS,
        (Cost::Connections, _, false) => CONNECTIONS,
        (Cost::Connections, _, true) => CONNECTIONS_WITH_QUIC,
        (Cost::Bits, 0, _) => BITS,
        (Cost::Bits, overhead, _) => CONNECTIONS_WITH_QUIC + overhead,
    };
    let promise = match terms.promise {
        Promise::Strict => 0,
        Promise::Local => 1,
        Promise::Elastic => 2,
    };
    let per = terms.per.map_or(0, |key| {
        let Key {
            source_v4,
            source_v6,
        } = key;
        // 1 to 4,096, as lengths begin at one.
        1 + (u32::from(source_v4) - 1) * 128 + (u32::from(source_v6) - 1)
    });
    Revision(
        per << PER_SHIFT
            | promise << PROMISE_SHIFT
            | cost << COST_SHIFT
            | u32::from(scale.fraction_bits),
    )
}

impl Revision {
    /// What this number says but for the scale. A key's debt is a time, so it means the same in any units: it
    /// is over when the key would have been idle by the policy that it was made under.
    #[must_use]
    pub const fn regardless_of_scale(self) -> Self {
        Self(self.0 >> COST_SHIFT << COST_SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::{collections::BTreeSet, vec};

    use super::*;
    use crate::file::quantity::Rate;

    fn terms(cost: Cost, promise: Promise) -> Terms {
        Terms {
            rate: Rate {
                cost,
                tokens: 1,
                period: Duration::from_secs(1),
            },
            burst_tokens: None,
            floor: None,
            promise,
            excess: None,
            per: None,
            on_expiry: None,
            overhead_bytes: 0,
            quic: false,
            max_members: 1,
        }
    }

    /// Numbers that pinned buckets carry.
    #[test]
    fn known_revisions_stay() {
        let scale = Scale { fraction_bits: 25 };
        for (cost, promise, expected) in [
            (Cost::Packets, Promise::Strict, 1 << 8 | 25),
            (Cost::Bits, Promise::Strict, 2 << 8 | 25),
            (Cost::Packets, Promise::Local, 1 << 16 | 1 << 8 | 25),
            (Cost::Bits, Promise::Local, 1 << 16 | 2 << 8 | 25),
        ] {
            assert_eq!(of(&terms(cost, promise), scale), Revision(expected));
        }
    }

    /// No two meanings share a number.
    #[test]
    fn revisions_are_unique() {
        let mut costs = vec![terms(Cost::Packets, Promise::Strict)];
        for quic in [false, true] {
            costs.push(Terms {
                quic,
                ..terms(Cost::Connections, Promise::Strict)
            });
        }
        for overhead_bytes in [0, 1, 24, Limit::MOST_OVERHEAD_BYTES] {
            costs.push(Terms {
                overhead_bytes,
                ..terms(Cost::Bits, Promise::Strict)
            });
        }
        let key = |(source_v4, source_v6)| Key {
            source_v4,
            source_v6,
        };
        let mut keys = vec![None];
        keys.extend(
            [(1, 1), (1, 2), (2, 1), (1, 128), (32, 1), (32, 128)]
                .map(key)
                .map(Some),
        );
        let mut seen = BTreeSet::new();
        let mut all = 0;
        for cost in costs {
            for promise in [Promise::Strict, Promise::Elastic, Promise::Local] {
                for per in &keys {
                    for fraction_bits in [0, 1, Scale::MAX_FRACTION_BITS] {
                        let terms = Terms {
                            promise,
                            per: *per,
                            ..cost
                        };
                        seen.insert(of(&terms, Scale { fraction_bits }));
                        all += 1;
                    }
                }
            }
        }
        assert_eq!(seen.len(), all);
    }
}
